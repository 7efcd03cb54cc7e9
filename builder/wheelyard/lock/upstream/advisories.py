"""Advisories about the locked wheels, from a file or URL in OSV's format (OSV schema 1.7).

No database is built in: the user names a trusted one.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from wheelyard.context import Context
from wheelyard.errors import FetchError, SettingsError
from wheelyard.fetching.replies import Interrupted, Refused
from wheelyard.fetching.transport import make_client, open_body
from wheelyard.lock.lockfile import read_requirements_lock
from wheelyard.lock.upstream.changelog import Fix
from wheelyard.lock.upstream.watch import UpstreamChange
from wheelyard.model import LockedWheel
from wheelyard.oci.documents import Document, UnreadableError, read_document
from wheelyard.planning.plan import load_plan
from wheelyard.settings import expanded
from wheelyard.system.urls import redact

ECOSYSTEM = "PyPI"
_LARGEST = 512 << 20  # bytes of a file of advisories, also unpacked
_SHOWN = 100  # letters of a summary


class _Event(Document):
    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None


class _Range(Document):
    type: str
    events: tuple[_Event, ...] = ()


class _Package(Document):
    ecosystem: str
    name: str


class _Affected(Document):
    package: _Package | None = None
    ranges: tuple[_Range, ...] | None = None
    versions: tuple[str, ...] | None = None


class Advisory(Document):
    """A vulnerability and the affected versions."""

    id: str
    aliases: tuple[str, ...] | None = None
    withdrawn: str | None = None
    summary: str | None = None
    affected: tuple[_Affected, ...] | None = None
    database_specific: dict[str, Any] | None = None

    @property
    def names(self) -> frozenset[str]:
        """All its names."""
        return frozenset((self.id, *(self.aliases or ())))

    @property
    def severity(self) -> str:
        """The severity in the database's own words, if it states one."""
        word = str((self.database_specific or {}).get("severity") or "unknown").lower()
        return "medium" if word == "moderate" else word[:20]


def check_advisories(context: Context, location: str) -> list[UpstreamChange]:
    """Find the locked wheels that advisories affect; each advisory once per wheel and version.

    `location` is a path or a URL. Raises FetchError and SettingsError.
    """
    users: defaultdict[LockedWheel, list[str]] = defaultdict(list)
    for cell in load_plan(context.settings.project).cells:
        for wheel in read_requirements_lock(context.settings.project / cell.lock).wheels:
            users[wheel].append(cell.id)
    return list(advisory_findings(users, read_advisories(context, location)))


def advisory_findings(
    users: Mapping[LockedWheel, Iterable[str]], advisories: Iterable[Advisory]
) -> Iterator[UpstreamChange]:
    """Match wheels and advisories by name and version."""
    about: defaultdict[str, list[Advisory]] = defaultdict(list)
    for advisory in sorted(advisories, key=lambda advisory: advisory.id):
        names = {canonicalize_name(x.package.name) for x in _of_wheels(advisory) if x.package}
        for affected in names:
            about[affected].append(advisory)
    locks: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for wheel, ids in users.items():
        locks[canonicalize_name(wheel.name), wheel.version].update(ids)
    for (name, version), ids in sorted(locks.items()):
        seen: set[str] = set()
        for advisory in about[name]:
            if advisory.names & seen or not is_affected(advisory, name, version):
                continue  # two databases may list the same vulnerability
            seen |= advisory.names
            yield _finding(advisory, name, version, tuple(sorted(ids)))


def _finding(advisory: Advisory, name: str, version: str, locks: tuple[str, ...]) -> UpstreamChange:
    fixed = fixed_in(advisory, name, version)
    known = sorted(advisory.aliases or ())
    also = f" ({', '.join(known)})" if known else ""
    way = f"fixed in {fixed}" if fixed else "no fixed version is known"
    summary = f": {advisory.summary[:_SHOWN]}" if advisory.summary else ""
    cve = next((alias for alias in known if alias.startswith("CVE-")), advisory.id)
    fixes = (Fix(cve, advisory.severity, fixed),) if fixed else ()
    subject, detail = f"{name} {version}", f"{advisory.id}{also}: {way}{summary}"
    return UpstreamChange("advisory", subject, detail, locks, fixes)


def is_affected(advisory: Advisory, name: str, version: str) -> bool:
    """Tell whether a version is listed, or is in a range (OSV schema, "Evaluation")."""
    own = _public(version)
    return own is not None and any(
        any(_public(listed) == own for listed in affected.versions or ())
        or any(_within(own, span) for span in _ranges(affected))
        for affected in _about(advisory, name)
    )


def fixed_in(advisory: Advisory, name: str, version: str) -> str | None:
    """Return the lowest version above this one that fixes the vulnerability."""
    own = _public(version)
    stated = [
        (fix, event.fixed)
        for affected in _about(advisory, name)
        for span in _ranges(affected)
        for event in span.events
        if event.fixed and (fix := _public(event.fixed)) and own and fix > own
    ]
    return min(stated)[1] if stated else None


def _of_wheels(advisory: Advisory) -> Iterator[_Affected]:
    if advisory.withdrawn is None:
        for affected in advisory.affected or ():
            if affected.package is not None and affected.package.ecosystem == ECOSYSTEM:
                yield affected


def _about(advisory: Advisory, name: str) -> Iterator[_Affected]:
    for affected in _of_wheels(advisory):
        if affected.package and canonicalize_name(affected.package.name) == name:
            yield affected


def _ranges(affected: _Affected) -> Iterator[_Range]:
    return (span for span in affected.ranges or () if span.type == "ECOSYSTEM")


def _within(version: Version, span: _Range) -> bool:
    marks: list[tuple[Version, int, bool]] = []  # where the affected range begins or ends
    for event in span.events:
        if event.introduced == "0":
            marks.append((Version("0.dev0"), 0, True))
        elif event.introduced and (start := _public(event.introduced)):
            marks.append((start, 0, True))
        if event.fixed and (end := _public(event.fixed)):
            marks.append((end, 1, False))
        if event.last_affected and (last := _public(event.last_affected)):
            marks.append((last, 2, False))
    affected = False
    for at, kind, begins in sorted(marks):
        if version > at or (version == at and kind < 2):
            affected = begins
    return affected


def _public(text: str) -> Version | None:
    """Parse a version without its local part: a build for a CUDA version is the same release."""
    try:
        return Version(Version(text).public)
    except InvalidVersion:
        return None


def read_advisories(context: Context, location: str) -> list[Advisory]:
    """Read one advisory, a list, `{"vulns": [...]}`, or a zip file of such documents.

    Raises FetchError if it cannot be fetched, and SettingsError if it is something else.
    """
    shown = redact(location)
    data = _fetched(context, location) if "://" in location else _read(location)
    try:
        documents = _unzipped(data) if data[:4] == b"PK\x03\x04" else [data]
        return [advisory for document in documents for advisory in _parsed(document)]
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as problem:
        raise SettingsError(
            f"--advisories {shown}: not in OSV's format: {problem}; name a JSON file or a zip"
        ) from problem


def _parsed(document: bytes) -> Iterator[Advisory]:
    entries = json.loads(document)
    if isinstance(entries, dict):
        entries = entries.get("vulns", [entries])
    if not isinstance(entries, list):
        raise UnreadableError("neither an advisory nor a list of them")
    for entry in entries:
        yield read_document(Advisory, json.dumps(entry))


def _unzipped(data: bytes) -> Iterator[bytes]:
    left = _LARGEST
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".json"):
                continue
            with archive.open(member) as file:
                content = file.read(left + 1)
            left -= len(content)
            if left < 0:
                raise UnreadableError(f"larger than {_LARGEST >> 20} MiB")
            yield content


def _read(path: str) -> bytes:
    try:
        with expanded(path).open("rb") as file:
            return _bounded(iter(lambda: file.read(1 << 20), b""), path)
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise SettingsError(f"--advisories {path}: {reason}") from problem


def _fetched(context: Context, url: str) -> bytes:
    try:
        with make_client(context.settings) as client, open_body(client, url, 0) as body:
            return _bounded(body.chunks, url)
    except (Refused, Interrupted) as problem:
        raise FetchError(f"--advisories {redact(url)}: {problem}") from problem


def _bounded(chunks: Iterator[bytes], place: str) -> bytes:
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > _LARGEST:
            raise SettingsError(f"--advisories {redact(place)}: larger than {_LARGEST >> 20} MiB")
    return bytes(data)
