"""The inputs of an ordinary build: the cache, and the network for everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wheelyard.fetching.fetch import fetch_all
from wheelyard.fetching.wanted import cached
from wheelyard.images.assemble.assembly import Assembly
from wheelyard.images.assemble.streamed import StreamedInputs
from wheelyard.images.inputs.supply import sources_list, supply
from wheelyard.lock.index import locate
from wheelyard.lock.resolve import index_urls
from wheelyard.lock.stages import load_stages, repositories

if TYPE_CHECKING:
    import threading

    from wheelyard.context import Context
    from wheelyard.images.assemble.assembly import Files
    from wheelyard.images.assemble.image import ImageLayer
    from wheelyard.images.assemble.store import LayerStore
    from wheelyard.images.assemble.streamed import Arrived
    from wheelyard.layers.layer import Layer
    from wheelyard.model import Cell, LockedWheel, PackageLock, Plan
    from wheelyard.oci.blobs import StoredLayer


class Network:
    """`Inputs` from the cache, mirrors, indexes and registries that the settings name."""

    def wheels(self, work: Assembly, wheels: Mapping[str, LockedWheel]) -> StreamedInputs:
        """Give the wheels that are in the cache, and the others as they arrive."""
        there = {
            sha256: path
            for sha256, wheel in wheels.items()
            if (path := cached(work.files, sha256, wheel.filename, wheel.size))
        }
        missing = [wheel for sha256, wheel in wheels.items() if sha256 not in there]
        if not missing:
            return StreamedInputs(there, None)

        def fetch(arrived: Arrived, stop: threading.Event) -> None:
            settings, reporter = work.context.settings, work.context.reporter
            cell = work.stages[0].cell
            downloads = locate(missing, cell.python, settings, index_urls(cell, settings))
            if not stop.is_set():
                fetch_all(downloads, work.files, settings, reporter, arrived=arrived, stop=stop)

        return StreamedInputs(there, fetch)

    def packages(
        self, work: Assembly, lock: PackageLock, title: str, layer_key: str | None
    ) -> StoredLayer | Files:
        """Get every package of `lock`, or its finished layer; raise what every source reported."""
        return supply(work, lock, title, layer_key)

    def image_layers(self, work: Assembly) -> list[ImageLayer]:
        """Get the layers of a base that is a registry's image, lowest first."""
        from wheelyard.images.inputs.pinned import image_layers  # here: it is slow to import

        return image_layers(work)

    def sources_list(self, work: Assembly, suite: str) -> str:
        """Return the archives that apt in an image of that suite reads."""
        return sources_list(suite, work.context)


def begin(
    cell: Cell,
    plan: Plan,
    context: Context,
    store: LayerStore,
    record: Mapping[str, Layer] | None = None,
    remade: set[str] | None = None,
) -> Assembly:
    """Begin an image of these inputs; LockError if its locks do not match the matrix.

    `record` and `remade` are those of `Assembly`.
    """
    return Assembly(
        load_stages(cell, plan, context.settings.project),
        context,
        store,
        Network(),
        record=record or {},
        repositories=repositories(cell, plan),
        remade=remade,
    )
