"""What was fixed in a Debian package since a version, from the changelog inside its .deb."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import IO, cast

from wheelyard.system.tarfiles import open_tar

_URGENCIES = ("low", "medium", "high", "emergency", "critical")  # Debian Policy 5.6.17
NOTE = (
    '\n"fixes" is what the successors\' changelogs name, with their own urgency: what an update '
    "brings. It does not list what is open: vulnerabilities without a fix, or that no changelog "
    "names, are missing."
)
_LARGEST = 32 << 20  # bytes of a changelog, unpacked

_ENTRY = re.compile(r"^[a-z0-9][a-z0-9+.-]* \((?P<version>[^)\s]+)\) [^;\n]*;(?P<fields>.*)$", re.M)
_URGENCY = re.compile(r"\burgency=([a-z]+)", re.IGNORECASE)
_CVE = re.compile(r"\bCVE-[0-9]{4}-[0-9]{4,7}\b")
_PARTS = re.compile(r"([^0-9]*)([0-9]*)")
_REBUILT = re.compile(r"\+b[0-9]+$")
_AR_MAGIC, _AR_HEADER = b"!<arch>\n", 60


@dataclass(frozen=True, slots=True)
class Fix:
    """A vulnerability that an update names."""

    name: str  # "CVE-2026-0861"
    severity: str  # the urgency of the entry that names it, or an advisory's own word
    version: str  # the first that has it


def fixes_since(text: str, version: str) -> tuple[Fix, ...]:
    """Return the fixes in entries newer than `version`, the newest first, each once."""
    fixes: dict[str, Fix] = {}
    entries = list(_ENTRY.finditer(text))
    for entry, after in zip(entries, [*entries[1:], None], strict=True):
        if version_key(entry["version"]) <= version_key(version):
            break
        urgency = _URGENCY.search(entry["fields"])
        body = text[entry.end() : after.start() if after else len(text)]
        for name in dict.fromkeys(_CVE.findall(body)):
            fix = Fix(name, urgency[1].lower() if urgency else "unknown", entry["version"])
            fixes[name] = max(fix, fixes.get(name, fix), key=lambda fix: severity(fix.severity))
    return tuple(fixes.values())


def fixes_text(fixes: Iterable[Fix]) -> str:
    """Summarize an update, the most severe first: `high: CVE-..., CVE-...; low: CVE-...`."""
    by_severity: dict[str, list[str]] = {}
    for fix in sorted(fixes, key=lambda fix: -severity(fix.severity)):
        by_severity.setdefault(fix.severity, []).append(fix.name)
    return "; ".join(f"{word}: {', '.join(names)}" for word, names in by_severity.items())


def severity(word: str) -> int:
    """Return the rank of an urgency; unknown ones rank lowest."""
    return _URGENCIES.index(word) if word in _URGENCIES else -1


def source_version(version: str) -> str:
    """Return a binary's source version; a rebuild of a binary has its own version."""
    return _REBUILT.sub("", version)


def version_key(version: str) -> tuple[int, list[object], list[object]]:
    """Return a key that sorts versions as dpkg does (deb-version(7))."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return int(epoch) if epoch.isdigit() else 0, _part_key(upstream), _part_key(revision or "0")


def _part_key(text: str) -> list[object]:
    key: list[object] = []
    for letters, digits in _PARTS.findall(text):
        key += [[*map(_letter_key, letters), 0], int(digits or 0)]
    return [*key, [0], 0]


def _letter_key(letter: str) -> int:
    """Order characters: a tilde before the end, letters before everything else."""
    if letter == "~":
        return -1
    return ord(letter) + (0 if letter.isalpha() else 0x110000)


def read_changelog(deb: Path, package: str) -> str | None:
    """Return the changelog in a package file; None if it has none.

    Raises ValueError for a file that cannot be read as a package, and OSError.
    """
    folder = f"usr/share/doc/{package}"
    native: str | None = None
    try:
        with deb.open("rb") as file, _data(file) as data:
            for member in data:
                name = member.name.removeprefix("./")
                if name == f"{folder}/changelog.Debian.gz" and member.isfile():
                    return _text(data, member)
                if name == f"{folder}/changelog.gz" and member.isfile():
                    native = _text(data, member)
    except (tarfile.TarError, zlib.error, EOFError) as problem:
        raise ValueError(f"{deb.name}: {problem}") from problem
    return native if native and _ENTRY.match(native) else None  # else it is upstream's own


def _text(data: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = data.extractfile(member)
    packed = b"" if file is None else file.read(_LARGEST)
    text = zlib.decompressobj(wbits=31).decompress(packed, _LARGEST)
    return text.decode("utf-8", errors="replace")


def _data(file: IO[bytes]) -> tarfile.TarFile:
    """Open the second archive in an ar archive (deb(5)): the package's files."""
    for name, size in _ar_members(file):
        if name.startswith("data.tar"):
            window = cast("IO[bytes]", _Window(file, size))
            return open_tar(window, "r|*")
        file.seek(size + size % 2, 1)
    raise ValueError("it does not contain data.tar")


def _ar_members(file: IO[bytes]) -> Iterator[tuple[str, int]]:
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise ValueError("it is not an ar archive")
    while header := file.read(_AR_HEADER):
        yield header[:16].decode("ascii", errors="replace").rstrip(" /"), int(header[48:58])


class _Window(RawIOBase):
    """The next `size` bytes of a file."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._file.read(wanted)
        self._left -= len(data)
        return data
