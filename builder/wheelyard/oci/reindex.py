"""Makes a table of contents from a blob alone.

`toc` files are written beside a layer as it is made; this module reads the same facts back from the
bytes that a user would pull, and checks both digests on the way.
"""

from __future__ import annotations

import bisect
import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from isal import igzip_lib

from wheelyard.errors import StorageError, unreadable
from wheelyard.layers.gzipmember import crc32
from wheelyard.layers.toc import Entry
from wheelyard.system.rootfolder import entry_path
from wheelyard.system.storage import damaged, in_the_way
from wheelyard.system.tarfiles import KINDS, open_tar

_CHUNK = 1 << 20
_ENTRIES_MAX = 500_000  # a base has 20,000, torch 12,000


def reindex(blob: Path, digest: str, diff_id: str, on_bytes: Callable[[int], None]) -> list[Entry]:
    """Read a layer's blob to its end; return its entries as LayerWriter would have listed them.

    Raises StorageError if the blob or the tar inside it has another digest, or is not a tar.
    """
    try:
        with (
            blob.open("rb") as file,
            unreadable(lambda why: damaged(blob, why)),
        ):
            reader = _MemberReader(file, on_bytes)
            entries = _read_entries(reader)
    except FileNotFoundError:
        raise StorageError(f"{blob} is missing; build again") from None
    except IsADirectoryError:
        raise in_the_way(blob) from None
    for expected, seen in ((digest, reader.blob_digest), (diff_id, reader.tar_digest)):
        if seen != expected:
            raise damaged(blob, f"it is {seen}, expected {expected}")
    return [
        entry.at(*reader.locate(start, entry.size)) if entry.size else entry
        for entry, start in entries
    ]


def _read_entries(reader: _MemberReader) -> list[tuple[Entry, int]]:
    """Return each entry and where its content begins in the tar; read the blob to its end."""
    entries: list[tuple[Entry, int]] = []
    stream: Any = reader  # has the only method that streaming needs
    opened: Any = open_tar(stream, "r|", bufsize=tarfile.BLOCKSIZE)
    with opened as archive:
        for info in archive:
            archive.members = []  # otherwise it would keep them all
            crc = 0
            if info.isreg() and (content := archive.extractfile(info)) is not None:
                while data := content.read(_CHUNK):
                    crc = crc32(data, crc)
            # Device nodes are not listed; images from a registry may contain some.
            if info.type in KINDS:
                entries.append((_entry(info, crc), info.offset_data))
            if len(entries) > _ENTRIES_MAX:
                raise StorageError(f"a layer with more than {_ENTRIES_MAX:,} entries; refused")
    reader.drain()
    return entries


def _entry(info: tarfile.TarInfo, crc: int) -> Entry:
    kind = KINDS[info.type]
    size = info.size if kind == "file" else 0
    name = entry_path(info.name)
    link = entry_path(info.linkname) if kind == "hardlink" else info.linkname
    return Entry(name, kind, info.mode, info.uid, info.gid, size, link, crc)


class _MemberReader:
    """A blob's tar as a stream that remembers where each gzip member begins."""

    def __init__(self, file: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        self._file = file
        self._on_bytes = on_bytes
        self._blob_hash, self._tar_hash = hashlib.sha256(), hashlib.sha256()
        self._starts: list[tuple[int, int]] = []  # (offset in the tar, offset in the blob)
        self._tar_size = self._blob_size = 0
        self._inflater: igzip_lib.IgzipDecompressor | None = None
        self._left = b""  # bytes of the blob that no inflater has seen
        self._ready = bytearray()

    @property
    def blob_digest(self) -> str:
        return f"sha256:{self._blob_hash.hexdigest()}"

    @property
    def tar_digest(self) -> str:
        return f"sha256:{self._tar_hash.hexdigest()}"

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes of the tar, fewer at its end."""
        while len(self._ready) < size and self._fill():
            pass
        data = bytes(self._ready[:size])
        del self._ready[:size]
        return data

    def drain(self) -> None:
        """Read to the end of the blob, past the end of the tar's entries."""
        while self._fill():
            self._ready.clear()

    def locate(self, start: int, size: int) -> tuple[int, int, int]:
        """Return where these bytes of the tar are in the blob: offset, length, bytes to skip."""
        first = bisect.bisect_right(self._starts, start, key=lambda s: s[0]) - 1
        after = bisect.bisect_left(self._starts, start + size, key=lambda s: s[0])
        tar_start, offset = self._starts[first]
        end = self._starts[after][1] if after < len(self._starts) else self._blob_size
        return offset, end - offset, start - tar_start

    def _fill(self) -> bool:
        if not self._left and (self._inflater is None or self._inflater.needs_input):
            self._left = self._file.read(_CHUNK)
            self._blob_hash.update(self._left)
            self._on_bytes(len(self._left))
            if not self._left:
                if self._inflater is not None:
                    raise EOFError("ends inside a gzip member")
                return False
        if self._inflater is None:
            self._inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
            self._starts.append((self._tar_size, self._blob_size))
        fed, self._left = self._left, b""
        data = self._inflater.decompress(fed, _CHUNK)
        self._blob_size += len(fed)
        self._tar_size += len(data)
        self._tar_hash.update(data)
        self._ready += data
        if self._inflater.eof:
            self._left = self._inflater.unused_data
            self._blob_size -= len(self._left)
            self._inflater = None
        return True
