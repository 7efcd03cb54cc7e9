"""One image in the making: what its parts work with."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from wheelyard.system.timing import timed

CACHE = "cache"  # the source of a Debian layer that was there already

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from wheelyard.context import Context
    from wheelyard.contract.recipe import BytecodeLayer, WheelLayer
    from wheelyard.images.assemble.image import ImageLayer
    from wheelyard.images.assemble.store import LayerStore
    from wheelyard.images.assemble.streamed import Arriving
    from wheelyard.layers.layer import Layer
    from wheelyard.lock.stages import Stage
    from wheelyard.model import LockedWheel, PackageLock
    from wheelyard.oci.blobs import StoredLayer

    Files = Mapping[str, Path]  # SHA-256 -> verified file


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """A layer and what it is to be made of."""

    key: str  # the layer is a function of it
    title: str  # for people: progress, history
    source: WheelLayer | BytecodeLayer | int  # int: the stage whose Debian packages it holds

    @property
    def from_wheels(self) -> bool:
        """Whether it holds what wheels hold, not what Debian packages do."""
        return not isinstance(self.source, int)


class Inputs(Protocol):
    """Where the parts of an image come from; every one of them is checked against its hash."""

    def wheels(self, work: Assembly, wheels: Mapping[str, LockedWheel]) -> Arriving:
        """Give the wheels (by SHA-256) that are there, and the others while they come."""

    def packages(
        self, work: Assembly, lock: PackageLock, title: str, layer_key: str | None
    ) -> StoredLayer | Files:
        """Get every package of `lock`; or the layer of `layer_key`, where that would do as well."""

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
    record: Mapping[str, Layer] = field(default_factory=dict)  # key -> what it was elsewhere
    repositories: Sequence[str] = ()  # of the project, where its registry may have those layers
    sources: dict[str, str] = field(default_factory=dict)  # title of a Debian layer -> who had it
    # Keys of the layers that this run has made, where it believes no other; None: it does.
    remade: set[str] | None = None

    @property
    def files(self) -> Path:
        """Where fetched files lie, by SHA-256."""
        return self.context.settings.cache_dir / "files"

    def find(self, planned: PlannedLayer) -> StoredLayer | None:
        """The layer, if the store has it, or if it need not be made again.

        Debian's packages are not installed again where no layer is believed: the blob is hashed.
        """
        if self.remade is None or planned.key in self.remade:
            return self.store.find(planned.key)
        return None if planned.from_wheels else self.store.find(planned.key, prove=True)

    def timed(self, part: str) -> AbstractContextManager[None]:
        """Add the time of the block to `part`."""
        return timed(self.seconds, part)

    def served(self, title: str, source: str, detail: str) -> None:
        """Say, now and in the report, where a layer of Debian packages comes from."""
        self.sources[title] = source
        self.context.reporter.info(f"{title}: {detail}")

    @contextmanager
    def fetching(self, arriving: Arriving) -> Iterator[None]:
        """Add the time of the block to "fetch" until the last file came, then to "layers"."""
        start = time.monotonic()
        try:
            yield
        finally:
            end = time.monotonic()
            fetched = min(max(arriving.ended, start), end)
            if fetched > start:
                self.seconds["fetch"] = self.seconds.get("fetch", 0.0) + fetched - start
            self.seconds["layers"] = self.seconds.get("layers", 0.0) + end - fetched
