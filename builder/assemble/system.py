"""The layers of Debian packages: a base, and what further flavours add to it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from builder.assemble import contract
from builder.assemble.base import base_key, make_rootfs
from builder.assemble.layer import FORMAT
from builder.assemble.roots import Root, RootImage, RootLayer, RootTar
from builder.assemble.worker import SystemJob
from builder.fetching.fetch import fetch_all
from builder.fetching.wanted import Download
from builder.lock.debian import deb_url, debian_sources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.assemble.assembly import Assembly
    from builder.assemble.image import ImageLayer
    from builder.assemble.store import LayerStore, StoredLayer
    from builder.building.stages import Stage
    from builder.context import Context
    from builder.model import LockedDeb, PackageLock

SUCCESSOR_ADVICE = (
    "take its successor with `wheelyard lock --bases-only` (--upgrade takes the newest of all), or "
    "name a snapshot of the archive that still has it: --debian-mirror, --debian-security-mirror"
)
_WEIGHT = 400 << 20  # as much as a wheel of this size


def system_title(stages: Sequence[Stage], index: int) -> str:
    """What people read of the layer, as in the image's history."""
    if (image := stages[0].cell.base.image) is not None:
        return f"user, group and environment on {image}"
    lock = stages[index].packages
    difference = ", difference" if index else ""
    return f"Debian {lock.suite}, {lock.base}-{lock.flavour}{difference}"


def system_key(stages: Sequence[Stage], index: int) -> str:
    """The base, and for every further flavour the difference to the one below it."""
    if (image := stages[0].cell.base.image) is not None:
        return _pinned_key(image.rpartition("@")[2], stages[0].cell.python)
    locks = [stage.packages for stage in stages[max(0, index - 1) : index + 1]]
    python = stages[index].cell.python
    parts = [FORMAT, contract.FORMAT, "system", python, *(base_key(lock) for lock in locks)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _pinned_key(digest: str, python: str) -> str:
    parts = [FORMAT, contract.FORMAT, "contract", python, digest]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def pinned_layers(work: Assembly) -> list[ImageLayer]:
    """The layers of a base that is a registry's image; none of any other base."""
    if work.stages[0].cell.base.image is None:
        return []
    from builder.assemble.pinned import image_layers  # with it comes all that speaks to registries

    return image_layers(work)


def system_job(work: Assembly, index: int, roots: Roots) -> SystemJob:
    """Make that layer; the root file systems that it needs are made or found first."""
    return SystemJob(
        key=system_key(work.stages, index),
        title=system_title(work.stages, index),
        root=roots.whole(index),
        below=roots.below(index),
        python=work.stages[index].cell.python,
        scratch=work.store.scratch(),
        weight=_WEIGHT,
    )


def lend_systems(stages: Sequence[Stage], store: LayerStore, other: LayerStore) -> None:
    """Let another store have the layers of Debian packages that this one knows."""
    for index in range(len(stages)):
        store.lend(system_key(stages, index), other)


class Roots:
    """The root file systems that layers are made of; on leaving, no tar of them is left."""

    def __init__(self, work: Assembly, known: Mapping[str, StoredLayer]) -> None:
        self._work = work
        self._known = known
        self._tars: dict[int, RootTar] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for root in self._tars.values():
            root.tar.unlink(missing_ok=True)

    def whole(self, index: int) -> Root:
        """All that a stage's packages installed; mmdebstrap runs unless a layer holds that."""
        if self._is_pinned:
            return self._image(contract=True)
        stored = self._known.get(system_key(self._work.stages, index))
        if stored and not index:  # a further flavour's layer is only a difference
            return RootLayer(stored.path, self._work.store.scratch())
        if index not in self._tars:
            self._tars[index] = _bootstrapped(self._work, self._work.stages[index].packages)
        return self._tars[index]

    def below(self, index: int) -> Root | None:
        """What that stage's layer is the difference to."""
        if self._is_pinned:
            return self._image(contract=False)
        return self.whole(index - 1) if index else None

    @property
    def _is_pinned(self) -> bool:
        return self._work.stages[0].cell.base.image is not None

    def _image(self, *, contract: bool) -> RootImage:
        blobs = tuple(layer.stored.path for layer in pinned_layers(self._work))
        return RootImage(blobs, self._work.store.scratch(), contract)


def _bootstrapped(work: Assembly, lock: PackageLock) -> RootTar:
    settings, reporter = work.context.settings, work.context.reporter
    with work.timed("fetch"):
        downloads = deb_downloads(lock.packages, lock.suite, work.context)
        debs = fetch_all(downloads, work.files, settings, reporter)
    # What apt reads in the image are the distribution's own mirrors, never the user's.
    public = replace(settings, debian_mirror=None, debian_security_mirror=None)
    lines = [
        f"deb {source.uri} {source.suite} {' '.join(source.components)}\n"
        for source in debian_sources(lock.suite, public, reporter)
    ]
    with work.timed("base"):
        return make_rootfs(lock, debs, "".join(lines), work.store.scratch(), reporter)


def deb_downloads(debs: Sequence[LockedDeb], suite: str, context: Context) -> list[Download]:
    """Where locked packages are: in the suite's archives, or the mirrors that are set."""
    sources = debian_sources(suite, context.settings, context.reporter)
    return [
        Download(
            deb_url(deb, sources), deb.path.rpartition("/")[2], deb.sha256, deb.size,
            SUCCESSOR_ADVICE,
        )
        for deb in debs
    ]  # fmt: skip
