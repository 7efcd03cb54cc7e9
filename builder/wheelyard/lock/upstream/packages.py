"""Compares the locked Debian packages with what the archives offer today.

The package lists drop a version when its successor arrives; days later the pool drops the file, and
then a base that is in no cache, registry or snapshot can no longer be made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.architecture import DEFAULT
from wheelyard.fetching.fetch import CONNECTIONS
from wheelyard.fetching.replies import Gone, Interrupted, Refused
from wheelyard.fetching.transport import make_client, open_body
from wheelyard.lock.apt import isolated_apt, offered
from wheelyard.lock.inputs import base_cells
from wheelyard.lock.packages import read_package_lock
from wheelyard.lock.sources import Source, deb_url, debian_sources
from wheelyard.lock.upstream.fixes import find_fixes
from wheelyard.lock.upstream.watch import UpstreamChange
from wheelyard.planning.plan import load_plan
from wheelyard.system.filelock import locked, once
from wheelyard.system.storage import TREE_SUM, is_tree_of, remove, tree_digest
from wheelyard.system.textfiles import write_text
from wheelyard.system.threads import each

if TYPE_CHECKING:
    import httpx

    from wheelyard.context import Context
    from wheelyard.model import LockedDeb, PackageLock

_UNLISTED, _GONE = "unlisted", "gone"  # from the lists, from the pool as well
_SUPERSEDED = "superseded"
Record = Mapping[str, str]  # control fields, SHA256 and Filename of one version


def check_packages(context: Context) -> list[UpstreamChange]:
    """Check every locked Debian package with the archives; FetchError if one is unreachable."""
    project = context.settings.project
    by_suite: defaultdict[tuple[str, str], list[PackageLock]] = defaultdict(list)
    for path in sorted(base_cells(load_plan(project).cells)):
        lock = read_package_lock(project / path)
        by_suite[lock.suite, lock.architecture].append(lock)
    return [
        finding
        for (suite, _), locks in sorted(by_suite.items())
        for finding in check_suite(
            context, locks, debian_sources(suite, context.settings, context.reporter)
        )
    ]


def check_suite(
    context: Context, locks: Sequence[PackageLock], sources: Sequence[Source]
) -> list[UpstreamChange]:
    """Compare the locks of one suite and architecture with the package lists of its archives."""
    records = _offered(context, locks, sources)
    changes = _with_pool(context, list(package_findings(locks, records)), locks, sources)
    return _with_fixes(context, changes, locks, records, sources)


def fixed_packages(
    context: Context, lock: PackageLock, sources: Sequence[Source]
) -> list[UpstreamChange]:
    """Find fixes for packages of unknown pool, as a bill of materials lists them."""
    records = _offered(context, [lock], sources)
    return _with_fixes(context, package_findings([lock], records), [lock], records, sources)


def _offered(
    context: Context, locks: Sequence[PackageLock], sources: Sequence[Source]
) -> tuple[Record, ...]:
    """Return the suite's records of the locked packages today."""
    names = sorted({deb.name for lock in locks for deb in lock.packages})
    architecture = locks[0].architecture
    suffix = "" if architecture == DEFAULT.name else f"-{architecture}"
    with (
        context.reporter.task(f"asking Debian {locks[0].suite}", None, "items"),
        _lists(context, f"{locks[0].suite}{suffix}") as lists,
        isolated_apt(sources, context.settings, context.reporter, lists, architecture) as apt,
    ):
        return offered(apt, names)


def _with_fixes(
    context: Context,
    changes: Iterable[UpstreamChange],
    locks: Iterable[PackageLock],
    records: Sequence[Record],
    sources: Sequence[Source],
) -> list[UpstreamChange]:
    """Add to the findings what newer packages fix."""
    changes = list(changes)
    debs = {_subject(deb): deb for lock in locks for deb in lock.packages}
    moved = {x: debs[x.subject] for x in changes if x.kind in (_UNLISTED, _GONE, _SUPERSEDED)}
    fixes = find_fixes(context, moved.values(), records, sources)
    return [replace(x, fixes=fixes.get(moved[x])) if x in moved else x for x in changes]


def _with_pool(
    context: Context,
    changes: Sequence[UpstreamChange],
    locks: Sequence[PackageLock],
    sources: Sequence[Source],
) -> list[UpstreamChange]:
    """Tell versions that only the lists have dropped from those that are gone."""
    debs = {_subject(deb): deb for lock in locks for deb in lock.packages}
    asked = [finding for finding in changes if finding.kind == _UNLISTED]
    with make_client(context.settings, CONNECTIONS) as client:
        answers = each(
            lambda x: _asked_for(x, debs[x.subject], sources, client), asked, CONNECTIONS, "pool"
        )
    known = dict(zip(asked, answers, strict=True))
    return [known.get(finding, finding) for finding in changes]


def _asked_for(
    finding: UpstreamChange, deb: LockedDeb, sources: Sequence[Source], client: httpx.Client
) -> UpstreamChange:
    """Check the pool for the finding's file, by requesting one byte of it."""
    try:
        with open_body(client, deb_url(deb, sources), 0, 1) as body:
            there = body.total in (None, deb.size)
    except Gone:
        there = False
    except (Refused, Interrupted) as error:
        return replace(finding, detail=f"{finding.detail}; the pool did not answer: {error}")
    if there:
        return replace(finding, detail=f"{finding.detail}; the pool still has the file")
    return replace(finding, kind=_GONE, detail=f"{finding.detail}; the pool has dropped the file")


@contextmanager
def _lists(context: Context, suite: str) -> Iterator[Path]:
    """Keep a suite's package lists in the cache, for one process at a time.

    apt trusts lists whose Release file has not changed; so damaged ones are removed first.
    """
    folder = context.settings.cache_dir / "lists"
    folder.mkdir(parents=True, exist_ok=True)
    kept, remembered = folder / suite, folder / f"{suite}{TREE_SUM}"
    wait = once(
        lambda: context.reporter.info(f"waiting for another run that reads the lists of {suite}")
    )
    with locked(folder / f"{suite}.lock", wait):
        if not is_tree_of(kept, remembered):
            remove(kept)
        remove(remembered)
        try:
            yield kept
        finally:
            if kept.is_dir():
                write_text(remembered, tree_digest(kept))


def package_findings(
    locks: Iterable[PackageLock], records: Iterable[Record]
) -> Iterator[UpstreamChange]:
    """Find locked packages that are unlisted, replaced or superseded, once with all their locks.

    `records` are newest first, as apt returns them.
    """
    there: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        there[record["Package"]].append(record)
    users: defaultdict[LockedDeb, list[str]] = defaultdict(list)
    for lock in locks:
        for deb in lock.packages:
            users[deb].append(f"{lock.base}-{lock.flavour}")
    for deb, names in sorted(users.items(), key=lambda item: (item[0].name, item[0].version)):
        if verdict := _verdict(deb, there[deb.name]):
            yield UpstreamChange(verdict[0], _subject(deb), verdict[1], tuple(names))


def _subject(deb: LockedDeb) -> str:
    return f"{deb.name} {deb.version}"


def _verdict(deb: LockedDeb, records: Sequence[Record]) -> tuple[str, str] | None:
    if not records:
        return _UNLISTED, "the archive no longer has a package of this name"
    newest = records[0]["Version"]
    same = [
        r for r in records if (r["Version"], r["Architecture"]) == (deb.version, deb.architecture)
    ]
    if not same:
        return _UNLISTED, f"the archive has {newest} instead"
    if deb.sha256 not in [record.get("SHA256") for record in same]:
        return "replaced", f"the archive lists sha256:{same[0].get('SHA256', 'nothing')} now"
    if newest != deb.version:
        return _SUPERSEDED, f"{newest} is out"
    return None
