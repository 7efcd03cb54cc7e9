"""A layer's table of contents: what the tar inside a blob holds, and where.

It is made while a layer is written and kept beside the blob. With it, a reader can take one file
out of a gigabyte without inflating the rest: each member of the blob can be inflated separately.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path

from isal import igzip_lib

from wheelyard.layers.errors import BlobError, EntryError, unreadable
from wheelyard.layers.gzipmember import crc32

LARGEST = 32 << 20  # bytes of a file that is read whole
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One tar entry.

    `offset` and `length` (bytes) name the gzip members that hold the content; after inflating
    them, the content begins at `skip`. A directory or link has no content: length 0.
    """

    path: str  # relative, no leading "./", no trailing "/"
    kind: str  # "file", "dir", "symlink", "hardlink"
    mode: int
    uid: int
    gid: int
    size: int = 0
    link: str = ""
    crc: int = 0
    offset: int = 0
    length: int = 0
    skip: int = 0

    def at(self, offset: int, length: int, skip: int = 0) -> Entry:
        """Return the same entry with its content at another place in the blob."""
        return Entry(
            self.path, self.kind, self.mode, self.uid, self.gid, self.size, self.link, self.crc,
            offset, length, skip,
        )  # fmt: skip


def parents(path: str) -> list[str]:
    """List the folders above a path, topmost first."""
    return [path[:at] for at, letter in enumerate(path) if letter == "/"]


_ROW = attrgetter(*(field.name for field in fields(Entry)))  # astuple() copies what it takes
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def beside(blob: Path) -> Path:
    """Return the path of the table of contents of an unfinished blob."""
    return blob.with_name(f"{blob.name}.toc")


def dump(entries: list[Entry], digest: str) -> str:
    """Serialize; one row per entry, after the digest of their blob and a checksum."""
    rows = ",\n".join(_ENCODER.encode(_ROW(entry)) for entry in entries)
    return f"{_heading(rows, digest)}\n{rows}\n"


def parse(text: str, digest: str) -> list[Entry]:
    """Read what `dump` wrote of that blob; raise ValueError for anything else."""
    heading, _, rows = text.removesuffix("\n").partition("\n")
    if heading != _heading(rows, digest):
        raise ValueError(f"not the table of contents of {digest}")
    return [Entry(*row) for row in json.loads(f"[{rows}]")]


def _heading(rows: str, digest: str) -> str:
    return f"{digest} {hashlib.sha256(rows.encode()).hexdigest()}"


def read_content(blob: Path, entry: Entry) -> bytes:
    """Return the content of one file, checked against its CRC-32.

    Raises BlobError if the blob's bytes do not match the table of contents, and EntryError if they
    are too many to be read whole.
    """
    if entry.size > LARGEST:
        raise EntryError(f"{blob}: {entry.path} has {entry.size:,} bytes; the limit is {LARGEST:,}")
    return b"".join(stream_content(blob, entry))


def stream_content(blob: Path, entry: Entry, piece: int = _CHUNK) -> Iterator[bytes]:
    """Yield a file's content in pieces; size and CRC-32 are checked after the last piece."""
    skip, left, crc = entry.skip, entry.size, 0
    for data in _inflated(blob, entry, piece) if left else ():
        content = data[skip : skip + left]
        skip = max(0, skip - len(data))
        left -= len(content)
        crc = crc32(content, crc)
        yield content
        if not left:
            break
    if left or crc != entry.crc:
        raise BlobError(blob, f"{entry.path} has another size or CRC-32")


def _inflated(blob: Path, entry: Entry, piece: int) -> Iterator[bytes]:
    """Yield the content of the entry's gzip members."""
    member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    packed, ahead = b"", entry.length
    with blob.open("rb") as file, unreadable(lambda why: BlobError(blob, f"{entry.path}: {why}")):
        file.seek(entry.offset)
        while True:
            if not packed and member.needs_input:
                packed = file.read(min(piece, ahead))
                ahead -= len(packed)
                if not packed:
                    return
            fed, packed = packed, b""
            yield member.decompress(fed, piece)
            if member.eof:
                packed = member.unused_data
                member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
