"""Writing one layer: a tar inside a gzip file of many members.

Every entry is owned by numbers, dated EPOCH, and written in the order given, so the blob is a
function of what is added. Content that is already DEFLATE is copied. If the resulting layer is
known, the content is not even inflated: the blob's digest covers everything inside.

Every layer holds all parent folders of its entries, as the layers below have them. Engines unpack a
layer by itself and create a missing folder with root's ownership and mode 0755, over the right one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from wheelyard.layers import gzipmember, toc
from wheelyard.layers.errors import EntryError
from wheelyard.layers.hashing import BlobSink
from wheelyard.layers.tarheader import BLOCK, EPOCH, tar_header
from wheelyard.layers.toc import Entry
from wheelyard.layers.wheel import DEFLATED, Member, Wheel
from wheelyard.layers.whiteout import PREFIX as WHITEOUT
from wheelyard.layers.whiteout import holds_whiteout

FORMAT = 5  # part of every layer's key: raise it whenever the bytes of a layer change
_CHUNK = 1 << 20  # content packed here goes into members of this many bytes


@dataclass(frozen=True, slots=True)
class Layer:
    """A finished layer."""

    digest: str  # of the blob: sha256:<hex>
    diff_id: str  # of the tar inside it: sha256:<hex>
    size: int  # of the blob, bytes
    unpacked_size: int  # of the tar, bytes


class AnotherLayerError(Exception):
    """The layer that was written differs from the known one."""


class LayerWriter:
    """Writes a layer's blob to `path`, and beside it the table of contents, `entries`.

    With `packed`, the tar is cut into members of `_CHUNK` bytes and compressed here: better for
    thousands of small files that come uncompressed. Otherwise every file has its own member.
    `threaded` hashes on a second core. `known` is the expected layer, if it was made before.
    """

    def __init__(
        self,
        path: Path,
        *,
        packed: bool = False,
        threaded: bool = False,
        known: Layer | None = None,
    ) -> None:
        self.entries: list[Entry] = []
        self._contents = toc.beside(path)
        self._file = path.open("wb")
        self._sink = BlobSink(self._file, threaded=threaded, blob_only=known is not None)
        self._packed = packed
        self._known = known
        self._pending = bytearray()  # tar bytes that no member of the blob holds yet
        self._members: list[int] = []  # blob offsets of the members, where `packed`
        self._paths: set[str] = set()
        self._folders = {""}

    def __enter__(self) -> Self:
        self._sink.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._sink.__exit__(*exc)
        self._file.close()

    def __contains__(self, path: str) -> bool:
        return path in self._paths

    def is_folder(self, path: str) -> bool:
        """Tell whether there is a folder at `path`."""
        return path in self._folders

    def directory(self, path: str, mode: int, uid: int = 0, gid: int = 0) -> None:
        """Add a directory."""
        self.add(Entry(path, "dir", mode, uid, gid))

    def symlink(self, path: str, target: str, uid: int = 0, gid: int = 0) -> None:
        """Add a symbolic link."""
        self.add(Entry(path, "symlink", 0o777, uid, gid, link=target))

    def file(self, path: str, data: bytes, mode: int, uid: int = 0, gid: int = 0) -> None:
        """Add a file with this content."""
        size, crc = len(data), gzipmember.crc32(data)
        self.add(Entry(path, "file", mode, uid, gid, size, crc=crc), data)

    def remove(self, path: str) -> None:
        """Remove what the layers below have at `path`: a whiteout."""
        folder, _, name = path.rpartition("/")
        place = f"{folder}/{WHITEOUT}{name}".lstrip("/")
        self._header(Entry(place, "file", 0, 0, 0), EPOCH, removes=True)
        self.entries.append(Entry(place, "file", 0, 0, 0))

    def add(self, entry: Entry, data: bytes = b"", mtime: int = EPOCH) -> None:
        """Add any entry; `data` is a file's content. The entry's place in the blob is set here."""
        self._packed_here(
            entry, (data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)), mtime
        )

    def member(self, path: str, wheel: Wheel, member: Member, mode: int, gid: int) -> None:
        """Add a wheel's member; its DEFLATE stream is copied, not compressed again."""
        entry = Entry(path, "file", mode, 0, gid, member.size, crc=member.crc)
        if not member.size:
            self.add(entry, wheel.read(member))
            return
        if member.method != DEFLATED or self._packed:
            self._packed_here(entry, (data for _, data in wheel.stream(member)))
            return
        self._header(entry, EPOCH)
        offset = self._flush()
        self._sink.blob(gzipmember.HEAD)
        if self._known:
            for packed in wheel.packed(member):
                self._sink.blob(packed)
            self._sink.skip(member.size)
        else:
            for packed, data in wheel.stream(member):
                self._sink.blob(packed)
                self._sink.tar(data)
        self._sink.blob(gzipmember.tail(member.crc, member.size))
        self._end_content(entry, offset)

    def finish(self) -> Layer:
        """End the tar, wait for both digests, and write the table of contents beside the blob.

        Raises AnotherLayerError if the blob is not the `known` layer's.
        """
        self._pending += bytes(2 * BLOCK)
        if self._packed:
            self._drain(1)
            self._members.append(self._sink.size)
            self.entries = [self._place(entry) for entry in self.entries]
        else:
            self._flush()
        digest, diff_id = self._sink.digests()
        self._file.flush()
        self._contents.write_text(toc.dump(self.entries, digest))
        made, known = Layer(digest, diff_id, self._sink.size, self._sink.tar_size), self._known
        if known is None:
            return made
        if replace(made, diff_id=known.diff_id) != known:
            raise AnotherLayerError
        return known

    def _packed_here(self, entry: Entry, pieces: Iterable[bytes], mtime: int = EPOCH) -> None:
        """Add an entry whose content comes uncompressed, in pieces of at most `_CHUNK` bytes."""
        self._header(entry, mtime)
        if self._packed:
            start = self._sink.tar_size + len(self._pending)
            self.entries.append(entry.at(start, 0))  # a tar offset until `finish`
            for data in pieces:
                self._pending += data
                self._drain(_CHUNK)
            self._pending += bytes(-entry.size % BLOCK)
            self._drain(_CHUNK)
            return
        offset = self._flush() if entry.size else 0
        for data in _whole_chunks(pieces):
            self._sink.blob(gzipmember.compressed(data))
            self._sink.tar(data)
        self._end_content(entry, offset)

    def _header(self, entry: Entry, mtime: int, *, removes: bool = False) -> None:
        if entry.path in self._paths:
            raise ValueError(f"{entry.path} added twice")
        if entry.path.rpartition("/")[0] not in self._folders:
            raise ValueError(f"{entry.path} added before its folder")
        if holds_whiteout(entry.path) and not removes:
            raise EntryError(
                f"/{entry.path}: engines read a name that begins with {WHITEOUT} as a command to "
                "delete files; layers must not contain one"
            )
        self._paths.add(entry.path)
        if entry.kind == "dir":
            self._folders.add(entry.path)
        self._pending += tar_header(entry, mtime)

    def _end_content(self, entry: Entry, offset: int) -> None:
        length = self._sink.size - offset if entry.size else 0
        self.entries.append(entry.at(offset, length))
        self._pending += bytes(-entry.size % BLOCK)

    def _flush(self) -> int:
        """Write pending bytes as one literal member; return the blob's size after it."""
        if self._pending:
            data = bytes(self._pending)
            self._sink.tar(data)
            self._sink.blob(gzipmember.literal(data))
            self._pending.clear()
        return self._sink.size

    def _drain(self, at_least: int) -> None:
        """Compress pending bytes in members of `_CHUNK` bytes while there are `at_least` bytes."""
        while len(self._pending) >= at_least:
            data = bytes(self._pending[:_CHUNK])
            del self._pending[:_CHUNK]
            self._members.append(self._sink.size)
            self._sink.tar(data)
            self._sink.blob(gzipmember.compressed(data))

    def _place(self, entry: Entry) -> Entry:
        """Turn a tar offset into the members of the blob that hold the content."""
        if not entry.size:
            return entry.at(0, 0)
        first, last = entry.offset // _CHUNK, (entry.offset + entry.size - 1) // _CHUNK
        offset = self._members[first]
        length = self._members[last + 1] - offset
        return entry.at(offset, length, entry.offset % _CHUNK)


def _whole_chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Cut the bytes into pieces of exactly `_CHUNK`, but the last: the cuts are in the digest."""
    pending = b""
    for piece in pieces:
        if not pending and len(piece) == _CHUNK:
            yield piece
            continue
        pending += piece
        while len(pending) >= _CHUNK:
            yield pending[:_CHUNK]
            pending = pending[_CHUNK:]
    if pending:
        yield pending
