"""The source of a base's root file system: mmdebstrap's tar, or the layer made of it.

The tar lives as long as the build that made it; only the layer is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from wheelyard.errors import unreadable
from wheelyard.images.assemble.accounts import apply_contract, steady_accounts
from wheelyard.images.assemble.flatten import flatten
from wheelyard.images.assemble.rootfs import RootFS, index_tar, read_rootfs
from wheelyard.system.storage import damaged
from wheelyard.system.tarfiles import open_gzip


@dataclass(frozen=True, slots=True)
class RootTar:
    """A root file system as mmdebstrap made it."""

    tar: Path
    sources_list: str  # the distribution's own, for apt in the image
    lower: Root | None = None  # what it shares its layers with, whose accounts keep their numbers

    @contextmanager
    def open(self, python: str) -> Iterator[RootFS]:
        """Index it, with the image contract added; takes seconds for a big one."""
        made = apply_contract(read_rootfs(self.tar, self.sources_list), python)
        with self.lower.open(python) if self.lower else nullcontext() as lower:
            steady = steady_accounts(made, lower)
        yield steady


@dataclass(frozen=True, slots=True)
class RootLayer:
    """The finished layer of a lowest flavour: the same root file system, including the contract."""

    blob: Path
    scratch: Path  # path of the tar inside it while it is read

    @contextmanager
    def open(self, _python: str) -> Iterator[RootFS]:
        """Inflate and index the layer."""
        try:
            with unreadable(partial(damaged, self.blob)):
                with open_gzip(self.blob) as packed, self.scratch.open("wb") as tar:
                    shutil.copyfileobj(packed, tar, 1 << 20)
                root = index_tar(self.scratch)
            yield root
        finally:
            self.scratch.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class RootImage:
    """A registry's image, its layers lowest first; with or without the image contract."""

    blobs: tuple[Path, ...]
    scratch: Path  # folder of the tars inside them while they are read
    contract: bool

    @contextmanager
    def open(self, python: str) -> Iterator[RootFS]:
        """Inflate and index the layers."""
        try:
            root = flatten(self.blobs, self.scratch)
            yield apply_contract(root, python, foreign=True) if self.contract else root
        finally:
            self.scratch.unlink(missing_ok=True)


Root = RootTar | RootLayer | RootImage
