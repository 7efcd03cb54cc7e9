"""A file to fetch, and its place in the download folder."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from wheelyard.errors import FetchError
from wheelyard.system.storage import is_file_of, remove, storage_error
from wheelyard.system.urls import url_problem

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Download:
    """A file to fetch, and its expected content."""

    url: str  # http, https or file
    filename: str
    sha256: str  # lower-case hex
    size: int | None  # bytes; None: not known beforehand
    if_gone: str = "choose files that exist with `wheelyard lock`"  # when no server has it any more
    fallbacks: tuple[str, ...] = ()  # URLs to try in turn if the file is gone


class FileGone(FetchError):  # noqa: N818
    """None of the servers has the file any more."""


class NotFetched(FetchError):  # noqa: N818
    """Some files of a call were not fetched; the others were. Both by SHA-256."""

    def __init__(self, message: str, failed: Collection[str], gone: Collection[str]) -> None:
        super().__init__(message)
        self.failed = frozenset(failed)
        self.gone = frozenset(gone)  # those that the servers do not have


def problem(item: Download) -> str | None:
    """Say why `item` cannot be fetched safely; names come from an index and may be hostile."""
    name = item.filename
    if not name.isprintable() or "/" in name or "\\" in name or name in ("", ".", ".."):
        return f"{name!r} is not a plain file name"
    if not _SHA256.fullmatch(item.sha256):
        return f"{name}: {item.sha256!r} is not a SHA-256 in lower-case hex"
    wrong = next(filter(None, map(url_problem, (item.url, *item.fallbacks))), None)
    return f"{name}: {wrong}" if wrong else None


def place(folder: Path, sha256: str, filename: str) -> Path:
    """Return the path of a verified file in the download folder."""
    return folder / sha256[:2] / sha256 / filename


def part(target: Path) -> Path:
    """Return the path of the unfinished file that will become `target`."""
    return target.with_name(target.name + ".part")


def cached(folder: Path, sha256: str, filename: str, size: int | None = None) -> Path | None:
    """Return the verified file, or None; only verified files get the final name."""
    path = place(folder, sha256, filename)
    found = file_size(path)
    if found is None or size not in (None, found):
        return None
    return path if path.is_file() and os.access(path, os.R_OK) else None


def checked(folder: Path, sha256: str, filename: str, size: int | None = None) -> Path | None:
    """Return the file if its bytes still match the hash; a damaged one is removed."""
    path = cached(folder, sha256, filename, size)
    if path is None or is_file_of(path, sha256):
        return path
    try:
        remove(path)
    except OSError as error:
        raise storage_error(error, path) from error
    return None


def file_size(path: Path) -> int | None:
    """Return the size in bytes, or None if there is no such file."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
