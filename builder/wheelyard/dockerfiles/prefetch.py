"""The files that the RUN steps of some images request from a wheelhouse, and their origins."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from wheelyard.contract.installer import load_installer
from wheelyard.dockerfiles.prefetched import PrefetchedFiles, WantedFile
from wheelyard.dockerfiles.wheelhouse import Content
from wheelyard.errors import FetchError, WheelyardError
from wheelyard.images.assemble.base import index_stanza
from wheelyard.images.inputs.supply import deb_downloads
from wheelyard.lock.index import locate
from wheelyard.lock.resolve import index_urls
from wheelyard.rendering.steps import PackageStep, WheelStep, make_steps

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.dockerfiles.batch import EngineBuild
    from wheelyard.dockerfiles.prefetched import Refuse
    from wheelyard.fetching.wanted import Download
    from wheelyard.model import LockedDeb, LockedWheel


def locate_content(jobs: Sequence[EngineBuild], context: Context) -> Content:
    """Return everything that the RUN steps of these images request, in their order."""
    wheels: dict[str, LockedWheel] = {}
    debs: dict[str, LockedDeb] = {}
    for job in jobs:
        wheels |= {wheel.sha256: wheel for wheel in _wheels(job)}
        debs |= {deb.sha256: deb for deb in _debs(job)}
    wanted = [
        *(WantedFile(w.filename, w.sha256, w.size) for w in wheels.values()),
        *(WantedFile(d.path.rpartition("/")[2], d.sha256, d.size) for d in debs.values()),
    ]

    def find(missing: Collection[str], refuse: Refuse) -> list[Download]:
        downloads: dict[str, Download] = {}
        refused: list[tuple[WheelyardError, set[str]]] = []
        for job in jobs:
            left = set(missing) - set(downloads)
            try:
                downloads |= {item.sha256: item for item in _locate(job, left, context)}
            except FetchError as error:  # files shared with another image may still be found there
                refused.append((error, left & _names(job)))
        for reason, wanted in refused:
            refuse(reason, wanted - set(downloads))
        return list(downloads.values())

    return Content(
        PrefetchedFiles(wanted, find, context),
        tuple(wheels.values()),
        tuple(debs.values()),
        index_stanza,
    )


def _locate(job: EngineBuild, left: Collection[str], context: Context) -> list[Download]:
    """Return addresses of an image's files, for those in `left`."""
    asked = [wheel for wheel in _wheels(job) if wheel.sha256 in left]
    indexes = index_urls(job.cell, context.settings)
    located = locate(asked, job.cell.python, context.settings, indexes)
    packages = [deb for deb in _debs(job) if deb.sha256 in left]
    return [
        *located,
        *(deb_downloads(packages, job.stages[-1].packages, context) if packages else ()),
    ]


def _names(job: EngineBuild) -> set[str]:
    """Return everything that an image needs, by SHA-256."""
    return {wheel.sha256 for wheel in _wheels(job)} | {deb.sha256 for deb in _debs(job)}


def _wheels(job: EngineBuild) -> Iterator[LockedWheel]:
    """Yield the installer, and the wheels that a Dockerfile installs with it, in its order."""
    yield load_installer(job.cell.architecture)
    for step in make_steps(job.cell, job.locks):
        if isinstance(step, WheelStep):
            yield from step.wheels


def _debs(job: EngineBuild) -> Iterator[LockedDeb]:
    """Return the Debian packages that a Dockerfile and a pinned base's install, in their order."""
    if job.cell.base.image is not None:
        yield from job.stages[0].packages.packages
    for step in make_steps(job.cell, job.locks):
        if isinstance(step, PackageStep):
            yield from step.packages
