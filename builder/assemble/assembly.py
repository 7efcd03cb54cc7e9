"""One image in the making: what its parts work with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.system.timing import timed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from builder.assemble.layer import Layer
    from builder.assemble.store import LayerStore
    from builder.building.stages import Stage
    from builder.context import Context


@dataclass(slots=True)
class Assembly:
    """An image's stages, the caches, and the seconds that each part took."""

    stages: Sequence[Stage]
    context: Context
    store: LayerStore
    seconds: dict[str, float] = field(default_factory=dict)
    record: Mapping[str, Layer] = field(default_factory=dict)  # key -> what it was elsewhere

    @property
    def files(self) -> Path:
        """Where fetched files lie, by SHA-256."""
        return self.context.settings.cache_dir / "files"

    def timed(self, part: str) -> AbstractContextManager[None]:
        """Add the time of the block to `part`."""
        return timed(self.seconds, part)
