"""Snapshot archives: files that mirrors have dropped, by the date on which they still existed.

Sources: apt.conf(5), Acquire::Snapshots; sources.list(5), Snapshot (apt 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from wheelyard.lock.apt import machine_config
from wheelyard.settings import NO_SNAPSHOT, Settings

if TYPE_CHECKING:
    from wheelyard.lock.sources import Source
    from wheelyard.model import LockedDeb, PackageLock

_ID, PATH = "@SNAPSHOTID@", "@PATH@"
_KEY = "acquire::snapshots::uri::"  # apt's keys are not case-sensitive
_ORIGIN = "debian"  # the label is the archive's name: Debian, Debian-Security
# An archive is copied a few times a day, so the copy with the locked state is younger than that
# state; and a mirror drops nothing on the day on which its successor arrives.
_AFTER_LOCK = (timedelta(days=1), timedelta(hours=6), timedelta(0), timedelta(days=3))
# Without the lock's date: packages reach a suite hours or months after they were built.
_AFTER_BUILD = tuple(timedelta(days=days) for days in (1, 3, 7, 14, 30, 60, 120))


def snapshot_id(moment: datetime) -> str:
    """Format a moment as snapshot archives do."""
    return moment.strftime("%Y%m%dT%H%M%SZ")


def snapshot_ids(lock: PackageLock, built: int | None) -> tuple[str, ...]:
    """Return the moments to ask for, the most promising first.

    A lock without a date is younger than its packages: `built` is the newest known build time of
    them, in seconds since 1970.
    """
    if lock.date is not None:
        locked = datetime.strptime(lock.date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return tuple(snapshot_id(locked + later) for later in _AFTER_LOCK)
    if built is None:
        return ()
    newest = datetime.fromtimestamp(built, UTC)
    return tuple(snapshot_id(newest + later) for later in _AFTER_BUILD)


def snapshot_patterns(settings: Settings, sources: Iterable[Source]) -> dict[str, str]:
    """Return the address pattern of each archive's snapshots, for archives that have them.

    The setting takes precedence over this machine's apt configuration; `sources` are the suite's
    own.
    """
    uris = {source.archive: source.uri for source in reversed(list(sources))}
    if settings.debian_snapshot == NO_SNAPSHOT:
        return {}
    if settings.debian_snapshot is not None:
        return {archive: _of_archive(settings.debian_snapshot, archive) for archive in uris}
    configured = {key.lower(): value for key, value in machine_config() if value}
    patterns = {archive: _configured(configured, archive, uri) for archive, uri in uris.items()}
    return {archive: pattern for archive, pattern in patterns.items() if pattern is not None}


def snapshot_urls(
    deb: LockedDeb, patterns: Mapping[str, str], moments: Sequence[str]
) -> tuple[str, ...]:
    """Return a package's URLs at those moments; empty if its archive has no snapshots."""
    pattern = patterns.get(deb.archive)
    if pattern is None:
        return ()
    return tuple(f"{pattern.replace(_ID, at).rstrip('/')}/{quote(deb.path)}" for at in moments)


def _of_archive(pattern: str, archive: str) -> str:
    """Apply the setting, one pattern for both archives, to one archive."""
    if PATH in pattern:
        return pattern.replace(PATH, archive)
    return pattern.replace("/debian/", f"/{archive}/")


def _configured(config: Mapping[str, str], archive: str, uri: str) -> str | None:
    """Return the pattern that apt would use: an override, its host's, its label's, ..."""
    address = urlsplit(uri)
    for key in (
        f"override::label::{archive}",
        f"override::origin::{_ORIGIN}",
        f"host::{address.hostname}",
        f"label::{archive}",
        f"origin::{_ORIGIN}",
    ):
        pattern = config.get(_KEY + key, "")
        if _ID in pattern and pattern.partition("://")[0] in ("http", "https", "file"):
            return pattern.replace(PATH, address.path.strip("/"))
        if pattern == NO_SNAPSHOT:
            return None
    return None
