"""Verdicts that still hold: kept in a file with what their judges read, line by line.

An interrupted run goes on from here, and after an edit only what read the edited file is tried
again. Which files a judge read, its child processes included, is told by their access times.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

NO_CHECK = "there is no such check"
NEVER = 0  # nanoseconds: the access time of a file that nobody has read


def forget_reads(folder: Path) -> None:
    """Let every file look as if nobody had read it: a read is noted again, with relatime, too."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, ns=(NEVER, path.stat().st_mtime_ns))


def files_read(folder: Path) -> list[str]:
    """Return the files below that somebody has read since; names relative to it."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.stat().st_atime_ns != NEVER
    )


def digest_of(*parts: bytes | str) -> str:
    """Return a short digest of several parts."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(content) + content)
    return digest.hexdigest()[:16]


class Kept:
    """A file of verdicts; a line that was cut off is left out."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._entries: dict[str, dict[str, Any]] = {}
        if file.exists():
            for line in file.read_text().splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # the end of a run that was cut off
                    continue
                self._entries[entry["key"]] = entry

    def find(self, key: str, package: Path) -> Mapping[str, Any] | None:
        """Return what was said, where every file that was read is still the same."""
        entry = self._entries.get(key)
        if entry is None or entry["read"] != _digests(package, entry["read"]):
            return None
        said: Mapping[str, Any] = entry["said"]
        return said

    def add(self, key: str, package: Path, read: Iterable[str], said: Mapping[str, Any]) -> None:
        """Keep a verdict; `read` names the files of the sound `package` that it depends on."""
        entry = {"key": key, "read": _digests(package, read), "said": dict(said)}
        self._entries[key] = entry
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(entry)}\n")  # on a line of its own, whatever was cut off


def needed(read: Iterable[str], mutated: str, package: Path) -> list[str]:
    """Return what a verdict depends on; everything where reads were not noted (noatime).

    A judge reads the file with the fault, else the fault is none that it could see.
    """
    names = sorted(read)
    return names if mutated in names else files_in(package)


def files_in(package: Path) -> list[str]:
    """Return all files of a package."""
    return sorted(
        path.relative_to(package).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


def _digests(package: Path, names: Iterable[str]) -> dict[str, str]:
    return {name: _digest(package / name) for name in names}


def _digest(path: Path) -> str:
    return digest_of(path.read_bytes()) if path.is_file() else "none"
