"""The results of a batch, image by image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wheelyard.errors import WheelyardError
    from wheelyard.images.assemble.image import Image
    from wheelyard.images.inspect.inspect import Finding
    from wheelyard.model import Cell


@dataclass(frozen=True, slots=True)
class Built:
    """A finished image."""

    cell: Cell
    image: Image
    new_bytes: int  # of blobs that no image built before it holds
    seconds: dict[str, float]  # per part of the build
    findings: tuple[Finding, ...]
    loaded: bool  # into a container engine
    bases: Mapping[str, str] = field(default_factory=dict)  # Debian layer -> source that served it


@dataclass(frozen=True, slots=True)
class Failed:
    """An image that could not be built, and why."""

    cell: Cell
    error: WheelyardError


@dataclass(frozen=True, slots=True)
class EngineImage:
    """An image that an engine has built, read back and tagged."""

    cell: Cell
    id: str  # as the engine knows it
    size: int  # bytes, unpacked as the engine counts them
    seconds: dict[str, float]
    findings: tuple[Finding, ...]
    log: Path
