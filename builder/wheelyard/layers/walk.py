"""Goes through a layer's tar beside its table of contents, for what packs the layer again."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from wheelyard.layers.errors import BlobError
from wheelyard.layers.tarheader import BLOCK
from wheelyard.layers.toc import Entry

CHUNK = 4 << 20  # bytes of a large file that a reader fetches at once
_HEADERS_MAX = 1 << 20  # bytes of one entry's headers, long names included
_KINDS = {"file": "reg", "dir": "dir", "symlink": "symlink", "hardlink": "hardlink"}
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class Tar(Protocol):
    """A stream of the inflated blob."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most `size`."""


def walk(
    blob: Path, entries: Sequence[Entry], tar: Tar
) -> Iterator[tuple[Entry, bytes, Iterator[bytes]]]:
    """Yield each entry with its headers, and its content in pieces of `CHUNK`.

    The content must be read to its end before the next entry. Raises BlobError if the tar has other
    entries.
    """
    for entry in entries:
        headers = _headers(tar)
        _check(blob, entry, headers)
        yield entry, headers, _content(tar, entry)
    if tar.read(BLOCK).strip(b"\0"):
        raise BlobError(blob, "it has more entries than its table of contents")


def modified(headers: bytes) -> int:
    """Return when an entry was last changed, in seconds since 1970."""
    return int(tarfile.TarInfo.frombuf(headers[-BLOCK:], "utf-8", "surrogateescape").mtime)


def row(entry: Entry, headers: bytes) -> dict[str, Any]:
    """Return what a table of contents says of an entry, its content aside."""
    info = tarfile.TarInfo.frombuf(headers[-BLOCK:], "utf-8", "surrogateescape")
    moment = datetime.fromtimestamp(info.mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    told: dict[str, Any] = {
        "name": f"{entry.path}/" if entry.kind == "dir" else entry.path,
        "type": _KINDS[entry.kind],
        "modtime": moment,
        "mode": info.mode,
        "uid": entry.uid,
        "gid": entry.gid,
    }
    if entry.kind == "file" and entry.size:
        told["size"] = entry.size
    if entry.link:
        told["linkName"] = entry.link
    return told


def _headers(tar: Tar) -> bytes:
    """Read an entry's header, with those that hold a long name before it."""
    headers = b""
    while len(headers) <= _HEADERS_MAX:
        block = tar.read(BLOCK)
        headers += block
        if block[156:157] not in _EXTENDED:
            return headers
        size = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape").size
        headers += tar.read(min(size + -size % BLOCK, _HEADERS_MAX))
    raise ValueError(f"an entry with more than {_HEADERS_MAX:,} bytes of headers")


def _check(blob: Path, entry: Entry, headers: bytes) -> None:
    """Raise BlobError if the tar has another entry than the table of contents."""
    info = tarfile.TarInfo.frombuf(headers[-BLOCK:], "utf-8", "surrogateescape")
    same_kind = {
        "file": info.isreg,
        "dir": info.isdir,
        "symlink": info.issym,
        "hardlink": info.islnk,
    }
    is_plain = len(headers) == BLOCK
    if (
        not same_kind[entry.kind]()
        or (is_plain and info.size != entry.size)
        or (is_plain and info.name.strip("/").removeprefix("./") != entry.path)
    ):
        raise BlobError(blob, f"{entry.path} is not there in the tar, or is something else")


def _content(tar: Tar, entry: Entry) -> Iterator[bytes]:
    """Yield a file's content from the tar, and pass by the padding after it."""
    left = entry.size
    while left:
        data = _exactly(tar, min(left, CHUNK))
        left -= len(data)
        yield data
    _exactly(tar, -entry.size % BLOCK)


def _exactly(tar: Tar, size: int) -> bytes:
    pieces = []
    while size:
        data = tar.read(size)
        if not data:
            raise EOFError("the tar ends in the middle of a file")
        pieces.append(data)
        size -= len(data)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
