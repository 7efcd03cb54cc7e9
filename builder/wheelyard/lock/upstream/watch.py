"""Checks what the indexes say today about the files that the locks pin.

A lock has no date, since it must not depend on the clock, and a checkout's dates are those of the
checkout. So a lock is as old as the newest file in it, by the index's upload time: it contains
nothing that was published later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.fetching.transport import make_client
from wheelyard.frameworks.known import builds_of
from wheelyard.lock.lockfile import read_requirements_lock
from wheelyard.lock.upstream.changelog import Fix
from wheelyard.lock.upstream.listing import IndexFile
from wheelyard.lock.upstream.refresh import FrameworkListing, offered_releases
from wheelyard.lock.upstream.simpleindex import CONNECTIONS, read_listings
from wheelyard.lock.uv import default_index
from wheelyard.planning.facts import Upstream, load_upstream
from wheelyard.planning.plan import load_inputs
from wheelyard.versions import order, short

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.model import Cell, LockedWheel
    from wheelyard.planning.matrix_model import Matrix

_Listings = Mapping[str, tuple[IndexFile, ...] | None]  # project -> its files


@dataclass(frozen=True, slots=True)
class UpstreamChange:
    """One change upstream, and the locks that it affects."""

    kind: str  # "gone", "unlisted", "replaced", "yanked", "release", "superseded", "old"
    subject: str  # a file, a release, an image, or a Debian package
    detail: str
    locks: tuple[str, ...]  # ids of the images; of a Debian package, the names of the bases' locks
    fixes: tuple[Fix, ...] | None = None  # what an update fixes; None: not looked up


def check_upstream(context: Context, max_age: int, data: Path | None) -> list[UpstreamChange]:
    """Check every locked wheel and framework with the indexes; FetchError if one fails."""
    matrix, upstream, plan = load_inputs(context.settings.project)
    if data is not None:
        upstream = load_upstream(data)
    locked = {
        cell: read_requirements_lock(context.settings.project / cell.lock).wheels
        for cell in plan.cells
    }
    by_index: defaultdict[str | None, dict[Cell, tuple[LockedWheel, ...]]] = defaultdict(dict)
    for cell, wheels in locked.items():
        by_index[cell.index][cell] = wheels
    changes: list[UpstreamChange] = []
    for name, cells in sorted(by_index.items(), key=lambda item: item[0] or ""):
        listings = _listings(context, name, cells.values())
        changes += [*_file_findings(cells, listings), *_age_findings(cells, listings, max_age)]
        if name is None:
            changes += _release_findings(matrix, upstream, plan.cells, listings)
    return changes


def _listings(
    context: Context, index: str | None, wheels: Iterable[tuple[LockedWheel, ...]]
) -> _Listings:
    """Return what an index, and after a named one the default index, lists for the projects."""
    default = default_index(context.settings)
    names = {wheel.name for locked in wheels for wheel in locked}
    with (
        make_client(context.settings, CONNECTIONS) as client,
        context.reporter.task("asking the index", len(names), "items") as task,
    ):
        if index is None:
            return read_listings(client, default, names, task)
        first = read_listings(client, context.settings.index(index), names, task)
        rest = read_listings(client, default, [n for n in names if first[n] is None], task)
        return {**first, **rest}


def _file_findings(
    cells: Mapping[Cell, tuple[LockedWheel, ...]], listings: _Listings
) -> Iterator[UpstreamChange]:
    """Find locked files that are yanked, replaced or gone, each once with all its locks."""
    users: defaultdict[LockedWheel, list[str]] = defaultdict(list)
    for cell, wheels in cells.items():
        for wheel in wheels:
            users[wheel].append(cell.id)
    for wheel, ids in sorted(users.items(), key=lambda item: item[0].filename):
        if verdict := _file_verdict(wheel, listings.get(wheel.name)):
            yield UpstreamChange(verdict[0], wheel.filename, verdict[1], tuple(ids))


def _file_verdict(
    wheel: LockedWheel, listed: tuple[IndexFile, ...] | None
) -> tuple[str, str] | None:
    if listed is None:
        return "gone", f"the index no longer has a project {wheel.name}"
    same = [file for file in listed if file.filename == wheel.filename]
    if not same:
        return "gone", "the index no longer lists the file"
    if same[0].sha256 != wheel.sha256:
        return "replaced", f"the index lists sha256:{same[0].sha256 or 'nothing'} now"
    if same[0].yanked is not None:
        return "yanked", same[0].yanked or "no reason given"
    return None


def _age_findings(
    cells: Mapping[Cell, tuple[LockedWheel, ...]], listings: _Listings, max_age: int
) -> Iterator[UpstreamChange]:
    """Find locks whose newest file is older than `max_age` days, if the index states dates."""
    uploaded = {
        file.sha256: file.uploaded
        for files in listings.values()
        for file in files or ()
        if file.uploaded and file.sha256
    }
    for cell, wheels in cells.items():
        dates = [uploaded[wheel.sha256] for wheel in wheels if wheel.sha256 in uploaded]
        if not dates:
            continue
        newest = max(map(_moment, dates))
        if (days := (datetime.now(UTC) - newest).days) > max_age:
            yield UpstreamChange("old", cell.id, f"its newest file is {days} days old", (cell.id,))


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _release_findings(
    matrix: Matrix, upstream: Upstream, cells: Iterable[Cell], listings: _Listings
) -> Iterator[UpstreamChange]:
    """Find releases without facts, and newer patches of the requested minors."""
    asked: defaultdict[str, set[str]] = defaultdict(set)
    for cell in cells:
        for pin in cell.frameworks:
            asked[pin.build or pin.name].add(pin.version)
    builds = [
        (build, entry.since)
        for name, entry in matrix.frameworks.items()
        for build in builds_of(name, entry.distribution)
    ]
    for build, since in builds:
        name, files = build.name, listings.get(build.distribution.partition("[")[0]) or ()
        offered = offered_releases(
            FrameworkListing(name, build.distribution, since, None, files, build.built)
        )
        standing = {version for version, offer in offered.items() if offer.yanked is None}
        known = set(upstream.get(name, {}))
        for version in sorted(standing - known, key=order):
            detail = "its facts are missing: run `wheelyard upstream refresh`"
            yield UpstreamChange("release", f"{name} {version}", detail, ())
        yield from _superseded(name, asked[name], standing)
        yield from _unasked(name, asked[name], standing & known)


def _superseded(name: str, asked: set[str], standing: set[str]) -> Iterator[UpstreamChange]:
    for version in sorted(asked, key=order):
        newer = [v for v in standing if short(v) == short(version) and order(v) > order(version)]
        if newer:
            latest = max(newer, key=order)
            detail = f"{latest} is out: axes.framework in matrix.yaml"
            yield UpstreamChange("superseded", f"{name} {version}", detail, ())


def _unasked(name: str, asked: set[str], known: set[str]) -> Iterator[UpstreamChange]:
    newest = max(known, key=order, default=None)
    if newest and asked and order(short(newest)) > max(order(short(v)) for v in asked):
        detail = (
            "the matrix does not request a release of this minor: axes.framework in matrix.yaml"
        )
        yield UpstreamChange("release", f"{name} {newest}", detail, ())
