"""The layers of Debian packages: a base, and what further flavours add to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from wheelyard.images.assemble import accounts
from wheelyard.images.assemble.base import base_key, make_rootfs
from wheelyard.images.assemble.roots import Root, RootImage, RootLayer, RootTar
from wheelyard.images.assemble.worker import SystemJob
from wheelyard.layers.layer import FORMAT
from wheelyard.oci.blobs import StoredLayer

if TYPE_CHECKING:
    from wheelyard.images.assemble.assembly import Assembly
    from wheelyard.images.assemble.image import ImageLayer
    from wheelyard.images.assemble.store import LayerStore
    from wheelyard.lock.stages import Stage
    from wheelyard.model import PackageLock

_WEIGHT = 400 << 20  # as much as a wheel of this size


def system_title(stages: Sequence[Stage], index: int) -> str:
    """Return the layer's title for people, as in the image's history."""
    if (image := stages[0].cell.base.image) is not None:
        return f"user, group and environment on {image}"
    lock = stages[index].packages
    difference = ", difference" if index else ""
    return f"Debian {lock.suite}, {lock.base}-{lock.flavour}{difference}"


def system_key(stages: Sequence[Stage], index: int) -> str:
    """Return the key of the base, or of a further flavour's difference to the one below it."""
    if (image := stages[0].cell.base.image) is not None:
        return _pinned_key(image.rpartition("@")[2], stages[0].cell.python)
    locks = [stage.packages for stage in stages[max(0, index - 1) : index + 1]]
    python = stages[index].cell.python
    parts = [FORMAT, accounts.FORMAT, "system", python, *(base_key(lock) for lock in locks)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _pinned_key(digest: str, python: str) -> str:
    parts = [FORMAT, accounts.FORMAT, "contract", python, digest]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def pinned_layers(work: Assembly) -> list[ImageLayer]:
    """Return the layers of a base that is a registry's image; empty for any other base."""
    if work.stages[0].cell.base.image is None:
        return []
    return work.inputs.image_layers(work)


def system_job(work: Assembly, index: int, roots: Roots) -> SystemJob:
    """Prepare the job that makes the layer; find or make the root file systems that it needs."""
    return SystemJob(
        key=system_key(work.stages, index),
        title=system_title(work.stages, index),
        root=roots.whole(index),
        below=roots.below(index),
        python=work.stages[index].cell.python,
        scratch=work.store.scratch(),
        weight=_WEIGHT,
    )


def share_systems(stages: Sequence[Stage], store: LayerStore, other: LayerStore) -> None:
    """Give another store the layers of Debian packages that this one has."""
    for index in range(len(stages)):
        store.copy_to(system_key(stages, index), other)
    if stages[0].native is not None:  # whose Python compiles
        store.copy_to(system_key((stages[0].native,), 0), other)


class Roots:
    """The root file systems that layers are made of; their tars are removed on leaving."""

    def __init__(self, work: Assembly, known: Mapping[str, StoredLayer]) -> None:
        self._work = work
        self._known = dict(known)
        self._tars: dict[int, RootTar] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for root in self._tars.values():
            root.tar.unlink(missing_ok=True)

    def layer(self, index: int) -> StoredLayer | None:
        """Return the finished layer of a stage's packages; None if it must be made of them here."""
        key = system_key(self._work.stages, index)
        if key not in self._known and index not in self._tars and not self._is_pinned:
            self._supply(index, key)
        return self._known.get(key)

    def whole(self, index: int) -> Root:
        """Return a stage's whole root file system; mmdebstrap runs unless a layer holds it."""
        if self._is_pinned:
            return self._image(contract=True)
        if not index and (stored := self.layer(0)):
            return RootLayer(stored.path, self._work.store.scratch())
        if index not in self._tars:  # a further flavour's layer is only a difference
            self._supply(index, None)
        return self._tars[index]

    def _supply(self, index: int, key: str | None) -> None:
        lock, title = self._work.stages[index].packages, system_title(self._work.stages, index)
        given = self._work.inputs.packages(self._work, lock, title, key)
        if isinstance(given, StoredLayer):
            self._known[str(key)] = given
        else:
            tar = _bootstrapped(self._work, lock, given)
            self._tars[index] = replace(tar, lower=self.below(index))

    def below(self, index: int) -> Root | None:
        """Return the root file system that the stage's layer is the difference to."""
        if self._is_pinned:
            return self._image(contract=False)
        return self.whole(index - 1) if index else None

    @property
    def _is_pinned(self) -> bool:
        return self._work.stages[0].cell.base.image is not None

    def _image(self, *, contract: bool) -> RootImage:
        blobs = tuple(layer.stored.path for layer in pinned_layers(self._work))
        return RootImage(blobs, self._work.store.scratch(), contract)


def _bootstrapped(work: Assembly, lock: PackageLock, debs: Mapping[str, Path]) -> RootTar:
    reporter = work.context.reporter
    lines = work.inputs.sources_list(work, lock.suite)
    with work.timed("base"):
        return make_rootfs(lock, debs, lines, work.store.scratch(), reporter)
