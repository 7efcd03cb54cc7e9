"""What an update of the bases' packages fixes, from the newer packages' changelogs.

Binaries of one source share its changelog, and some leave it to another package, so it is read from
the smallest that has it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from wheelyard.errors import FetchError
from wheelyard.fetching.fetch import Download, cached, fetch_all
from wheelyard.lock.upstream.changelog import Fix, fixes_since, read_changelog, source_version

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.lock.sources import Source
    from wheelyard.model import LockedDeb

_TRIES = 4  # packages of one source that are searched for its changelog
_SOURCE = re.compile(r"(?P<name>\S+)(?: \((?P<version>[^)]+)\))?")

Record = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Successor:
    """The newer package that replaces a locked one in the archive."""

    deb: LockedDeb
    record: Record
    since: str | None  # the source's version in the lock; None: unknown

    @property
    def download(self) -> tuple[str, str, int]:
        """The path in the pool, SHA-256 and size."""
        return self.record["Filename"], self.record["SHA256"], int(self.record["Size"])


def find_fixes(
    context: Context,
    debs: Iterable[LockedDeb],
    records: Sequence[Record],
    sources: Sequence[Source],
) -> dict[LockedDeb, tuple[Fix, ...]]:
    """Return what the newest version of each package fixes; unknown ones are left out.

    `records` are newest first, as apt returns them, with the hashes of the signed lists.
    """
    groups: defaultdict[str, list[_Successor]] = defaultdict(list)
    for deb in debs:
        if (newer := _successor(deb, records)) is not None:
            groups[_source(newer.record)[0]].append(newer)
    texts: dict[str, str] = {}
    for attempt in range(_TRIES):
        asked = {
            name: sorted(group, key=lambda x: x.download[2])[attempt]
            for name, group in groups.items()
            if name not in texts and len(group) > attempt
        }
        texts |= _changelogs(context, asked, sources)
    return {
        x.deb: fixes_since(texts[name], x.since)
        for name, group in groups.items()
        for x in group
        if name in texts and x.since is not None
    }


def _successor(deb: LockedDeb, records: Sequence[Record]) -> _Successor | None:
    own = [record for record in records if record["Package"] == deb.name]
    if not own or own[0]["Version"] == deb.version or not {"SHA256", "Size"} <= set(own[0]):
        return None
    locked = next((record for record in own if record["Version"] == deb.version), None)
    if locked is not None:
        since = _source(locked)[1]
    elif _source(own[0])[1] == source_version(own[0]["Version"]):
        since = source_version(deb.version)
    else:  # the binary's version is not its source's
        since = None
    return _Successor(deb, own[0], since)


def _source(record: Record) -> tuple[str, str]:
    """Return name and version of a package's source."""
    version = source_version(record["Version"])
    match = _SOURCE.match(record.get("Source", ""))
    return (match["name"], match["version"] or version) if match else (record["Package"], version)


def _changelogs(
    context: Context, asked: Mapping[str, _Successor], sources: Sequence[Source]
) -> dict[str, str]:
    """Read the changelogs of the packages that can be fetched; a warning lists the others."""
    folder = context.settings.cache_dir / "files"
    downloads = {name: _download(x, sources) for name, x in asked.items()}
    try:
        fetch_all(list(downloads.values()), folder, context.settings, context.reporter)
    except FetchError as error:
        context.reporter.warn(f"not every changelog could be read: {error}")
    changelogs: dict[str, str] = {}
    for name, item in downloads.items():
        path = cached(folder, item.sha256, item.filename, item.size)
        if path is not None and (text := _read(context, path, asked[name].deb.name)) is not None:
            changelogs[name] = text
    return changelogs


def _download(successor: _Successor, sources: Sequence[Source]) -> Download:
    """Make the download; the lists do not say which archive has it, so each is tried."""
    path, sha256, size = successor.download
    uris = dict.fromkeys(source.uri for source in sources)
    first, *others = (f"{uri}/{quote(path)}" for uri in uris)
    return Download(first, path.rpartition("/")[2], sha256, size, fallbacks=tuple(others))


def _read(context: Context, deb: Path, package: str) -> str | None:
    try:
        return read_changelog(deb, package)
    except (ValueError, OSError) as problem:
        context.reporter.warn(f"{deb.name}: its changelog cannot be read: {problem}")
        return None
