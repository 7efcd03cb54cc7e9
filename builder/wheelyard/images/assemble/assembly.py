"""The state of one image while it is made."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wheelyard.system.timing import timed

CACHE = "cache"  # the source of a Debian layer that was there already

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.contract.recipe import BytecodeLayer, WheelLayer
    from wheelyard.images.assemble.image import ImageLayer
    from wheelyard.images.assemble.store import LayerStore
    from wheelyard.images.assemble.streamed import StreamedInputs
    from wheelyard.layers.layer import Layer
    from wheelyard.lock.stages import Stage
    from wheelyard.model import LockedWheel, PackageLock
    from wheelyard.oci.blobs import StoredLayer

    Files = Mapping[str, Path]  # SHA-256 -> verified file


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """A layer and what it will be made of."""

    key: str  # hash of everything that the layer depends on
    title: str  # for people: progress, history
    source: WheelLayer | BytecodeLayer | int  # int: the stage whose Debian packages it holds

    @property
    def from_wheels(self) -> bool:
        """Whether it holds the content of wheels, not of Debian packages."""
        return not isinstance(self.source, int)


class Inputs(Protocol):
    """The sources of an image's parts; each part is checked against its hash."""

    def wheels(self, work: Assembly, wheels: Mapping[str, LockedWheel]) -> StreamedInputs:
        """Give the wheels (by SHA-256) that are there, and the others as they arrive."""

    def packages(
        self, work: Assembly, lock: PackageLock, title: str, layer_key: str | None
    ) -> StoredLayer | Files:
        """Get every package of `lock`, or the layer of `layer_key`, if that suffices."""

    def image_layers(self, work: Assembly) -> list[ImageLayer]:
        """Get the layers of a base that is a registry's image, lowest first."""

    def sources_list(self, work: Assembly, suite: str) -> str:
        """Return the archives that apt in an image of that suite reads."""


@dataclass(slots=True)
class Assembly:
    """An image's stages, the caches, and the seconds that each part took."""

    stages: Sequence[Stage]
    context: Context
    store: LayerStore
    inputs: Inputs
    seconds: dict[str, float] = field(default_factory=dict)
    record: Mapping[str, Layer] = field(default_factory=dict)  # key -> as another build made it
    repositories: Sequence[str] = ()  # of the project, whose registry may have those layers
    sources: dict[str, str] = field(default_factory=dict)  # title of a Debian layer -> its source
    # Keys of layers that this run has made, if it trusts no others; None: it trusts all.
    remade: set[str] | None = None

    @property
    def files(self) -> Path:
        """The folder of fetched files, by SHA-256."""
        return self.context.settings.cache_dir / "files"

    def find(self, planned: PlannedLayer) -> StoredLayer | None:
        """Return the layer if the store has it and it need not be made again.

        Debian packages are not installed again if no layer is trusted: then the blob is hashed.
        """
        if self.remade is None or planned.key in self.remade:
            return self.store.find(planned.key)
        return None if planned.from_wheels else self.store.find(planned.key, prove=True)

    def timed(self, part: str) -> AbstractContextManager[None]:
        """Add the time of the block to `part`."""
        return timed(self.seconds, part)

    def served(self, title: str, source: str, detail: str) -> None:
        """Record, now and in the report, the source of a layer of Debian packages."""
        self.sources[title] = source
        self.context.reporter.info(f"{title}: {detail}")

    @contextmanager
    def fetching(self, streamed: StreamedInputs) -> Iterator[None]:
        """Add the time of the block to "fetch" until the last file arrived, then to "layers"."""
        start = time.monotonic()
        try:
            yield
        finally:
            end = time.monotonic()
            fetched = min(max(streamed.ended, start), end)
            if fetched > start:
                self.seconds["fetch"] = self.seconds.get("fetch", 0.0) + fetched - start
            self.seconds["layers"] = self.seconds.get("layers", 0.0) + end - fetched
