"""Rot watch for the bases: what Debian's archives offer today of the packages that the locks pin.

Mirrors drop a package when its successor arrives; a base that no cache holds can then not be made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.lock.apt import isolated_apt, offered
from builder.lock.debian import debian_sources
from builder.lock.inputs import base_cells
from builder.lock.packages import read_package_lock
from builder.planning.plan import load_plan
from builder.system.filelock import locked, once
from builder.upstream.watch import Finding

if TYPE_CHECKING:
    from pathlib import Path

    from builder.context import Context
    from builder.lock.debian import Source
    from builder.model import LockedDeb, PackageLock

Record = Mapping[str, str]  # control fields, SHA256 and Filename of one version


def check_packages(context: Context) -> list[Finding]:
    """Ask the archives about every locked Debian package; FetchError when one cannot be asked."""
    project = context.settings.project
    by_suite: defaultdict[str, list[PackageLock]] = defaultdict(list)
    for path in sorted(base_cells(load_plan(project).cells)):
        lock = read_package_lock(project / path)
        by_suite[lock.suite].append(lock)
    return [
        finding
        for suite, locks in sorted(by_suite.items())
        for finding in check_suite(
            context, locks, debian_sources(suite, context.settings, context.reporter)
        )
    ]


def check_suite(
    context: Context, locks: Sequence[PackageLock], sources: Sequence[Source]
) -> list[Finding]:
    """Compare the locks of one suite with the package lists of its archives."""
    names = sorted({deb.name for lock in locks for deb in lock.packages})
    with (
        context.reporter.task(f"asking Debian {locks[0].suite}", None, "items"),
        _lists(context, locks[0].suite) as lists,
        isolated_apt(sources, context.settings, context.reporter, lists) as apt,
    ):
        return list(package_findings(locks, offered(apt, names)))


@contextmanager
def _lists(context: Context, suite: str) -> Iterator[Path]:
    """Keep a suite's package lists in the cache, for one process at a time."""
    folder = context.settings.cache_dir / "lists"
    folder.mkdir(parents=True, exist_ok=True)
    wait = once(lambda: context.reporter.info(f"another run reads the lists of {suite}; waiting"))
    with locked(folder / f"{suite}.lock", wait):
        yield folder / suite


def package_findings(locks: Iterable[PackageLock], records: Iterable[Record]) -> Iterator[Finding]:
    """Find locked packages that are gone, replaced or superseded, each once with all its locks.

    `records` are newest first, as apt gives them.
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
            yield Finding(verdict[0], f"{deb.name} {deb.version}", verdict[1], tuple(names))


def _verdict(deb: LockedDeb, records: Sequence[Record]) -> tuple[str, str] | None:
    if not records:
        return "gone", "the archive has no package of this name any more"
    newest = records[0]["Version"]
    same = [
        r for r in records if (r["Version"], r["Architecture"]) == (deb.version, deb.architecture)
    ]
    if not same:
        return "gone", f"the archive has {newest} in its place"
    if deb.sha256 not in [record.get("SHA256") for record in same]:
        return "replaced", f"the archive lists sha256:{same[0].get('SHA256', 'nothing')} now"
    if newest != deb.version:
        return "superseded", f"{newest} is out"
    return None
