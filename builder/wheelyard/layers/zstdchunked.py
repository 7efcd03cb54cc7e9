"""Makes a layer of which podman fetches only the files that it lacks: zstd:chunked.

Every file has a zstd frame of its own; after them come, in frames that other readers skip, a table
of contents with each file's digest, and a record of the tar around the files (tar-split), from
which podman makes the tar again and compares its digest. It is the same tar. podman and CRI-O read
the table where the annotations of the layer's descriptor say.

Large files are not cut into chunks as podman does: no reader fetches a part of a file later, cuts
at fixed places match nothing in the next release, and they cost 4 % of a CUDA library.

Source: containers/storage, pkg/chunked/internal/minimal and pkg/chunked/compressor.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from wheelyard.layers import walk
from wheelyard.layers.errors import BlobError, LayersError, unreadable
from wheelyard.layers.hashing import BlobSink
from wheelyard.layers.layer import Layer
from wheelyard.layers.tarheader import BLOCK, tar_header
from wheelyard.layers.toc import Entry

FORMAT = 1  # part of what remembers a layer: raise it whenever the bytes change
CHECKSUM = "io.github.containers.zstd-chunked.manifest-checksum"  # annotations of the descriptor
POSITION = "io.github.containers.zstd-chunked.manifest-position"
TAR_SPLIT = "io.github.containers.zstd-chunked.tarsplit-position"
_SKIPPED = b"\x50\x2a\x4d\x18"  # the magic number of a frame that readers of zstd skip
_MAGIC = b"GNUlInUx"
_FOOTER = struct.Struct("<7Q8s")
_KIND = 1  # of table of contents
_TABLE_MAX = 150 << 20  # bytes of a table that podman takes
_SEGMENT, _FILE = 2, 1  # kinds of tar-split's entries
_END_MAX = 1 << 20  # bytes of zeros at a tar's end, which tar-split repeats; tar writes 10 KiB


class Packer(Protocol):
    """A ZstdCompressor."""

    def compress(self, data: bytes, /) -> bytes:
        """Compress more of a frame."""

    def flush(self) -> bytes:
        """End the frame."""


class NotChunkedError(LayersError):
    """A layer has an entry twice, a header not written as ours are, or a very long end."""


def write_chunked(
    blob: Path, entries: Sequence[Entry], tar: walk.Tar, target: Path, packer: Packer
) -> Layer:
    """Write the gzip layer at `blob` as zstd:chunked to `target`; its tar stays the same.

    `entries` is its table of contents, and `tar` the inflated blob. Raises BlobError if they do not
    agree, and NotChunkedError for what podman would refuse.
    """
    with (
        target.open("wb") as file,
        BlobSink(file, threaded=False) as sink,
        unreadable(lambda why: BlobError(blob, why)),
    ):
        writer, seen = _Writer(sink, packer), set[str]()
        for entry, headers, content in walk.walk(blob, entries, tar):
            if headers != tar_header(entry, walk.modified(headers)):
                raise NotChunkedError(f"{entry.path} has a header that the table cannot tell of")
            if entry.path in seen:
                raise NotChunkedError(f"{entry.path} is given twice")
            seen.add(entry.path)
            writer.add(entry, headers, content)
        rest = bytes(BLOCK)  # of zeros, which the walk has read
        while data := tar.read(walk.CHUNK):
            if data.strip(b"\0"):
                raise BlobError(blob, "it has more entries than its table of contents")
            rest += data
            if len(rest) > _END_MAX:
                raise NotChunkedError(f"more than {_END_MAX:,} bytes of zeros at the end")
        return writer.finish(rest)


def read_annotations(blob: Path) -> dict[str, str]:
    """Return what a layer's descriptor says of its blob; nothing if it is not chunked."""
    with blob.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _FOOTER.size))
        *numbers, magic = _FOOTER.unpack(file.read(_FOOTER.size).rjust(_FOOTER.size, b"\0"))
        at, packed, size, kind, split_at, split_packed, split_size = numbers
        if magic != _MAGIC:
            return {}
        if packed > _TABLE_MAX:
            raise BlobError(blob, f"its table of contents has {packed:,} bytes")
        file.seek(at)
        table = file.read(packed)
    return {
        CHECKSUM: f"sha256:{hashlib.sha256(table).hexdigest()}",
        POSITION: f"{at}:{packed}:{size}:{kind}",
        TAR_SPLIT: f"{split_at}:{split_packed}:{split_size}",
    }


class _Writer:
    """Writes entries one after the other, and remembers what both tables say."""

    def __init__(self, sink: BlobSink, packer: Packer) -> None:
        self._sink, self._packer = sink, packer
        self._rows: list[dict[str, Any]] = []
        self._split: list[str] = []
        self._pending = bytearray()  # tar bytes that no frame holds yet
        self._segment = bytearray()  # tar bytes that no entry of tar-split holds yet

    def add(self, entry: Entry, headers: bytes, content: Iterator[bytes]) -> None:
        """Add an entry with its content in pieces."""
        self._beside(headers)
        row = walk.row(entry, headers)
        self._rows.append(row)
        digest, crc, done = hashlib.sha256(), 0, 0
        for data in content:
            if not done:
                row["offset"] = self._flush()
            self._sink.blob(self._packer.compress(data))
            self._sink.tar(data)
            digest.update(data)
            crc = crc64(data, crc)
            done += len(data)
        if done:
            self._sink.blob(self._packer.flush())
            row |= {"endOffset": self._sink.size, "digest": f"sha256:{digest.hexdigest()}"}
        self._tell(_SEGMENT, payload=bytes(self._segment))
        self._segment.clear()
        told: dict[str, Any] = {"name": row["name"]}
        if done:
            told |= {"size": done, "payload": struct.pack(">Q", crc)}
        self._tell(_FILE, **told)
        self._beside(bytes(-done % BLOCK))

    def finish(self, rest: bytes) -> Layer:
        """Write the end of the tar, both tables and the footer."""
        self._beside(rest)
        self._tell(_SEGMENT, payload=bytes(self._segment))
        self._flush()
        split = "".join(self._split).encode()
        packed_split = self._frame(split)
        digest = f"sha256:{hashlib.sha256(packed_split).hexdigest()}"
        told = {"version": 1, "entries": self._rows, "tarSplitDigest": digest}
        table = _json(told).encode()
        packed = self._frame(table)
        at = self._skipped(packed)
        split_at = self._skipped(packed_split)
        numbers = (at, len(packed), len(table), _KIND, split_at, len(packed_split), len(split))
        self._skipped(_FOOTER.pack(*numbers, _MAGIC))
        digest, diff_id = self._sink.digests()
        return Layer(digest, diff_id, self._sink.size, self._sink.tar_size)

    def _beside(self, data: bytes) -> None:
        """Add bytes of the tar that are no file's content."""
        self._pending += data
        self._segment += data

    def _tell(self, kind: int, *, payload: bytes | None = None, **more: Any) -> None:
        text = None if payload is None else base64.b64encode(payload).decode()
        told = {"type": kind, **more, "payload": text, "position": len(self._split)}
        self._split.append(f"{_json(told)}\n")

    def _flush(self) -> int:
        if self._pending:
            data = bytes(self._pending)
            self._sink.tar(data)
            self._sink.blob(self._frame(data))
            self._pending.clear()
        return self._sink.size

    def _frame(self, data: bytes) -> bytes:
        return self._packer.compress(data) + self._packer.flush()

    def _skipped(self, data: bytes) -> int:
        """Write a frame that readers of zstd skip; return where its content begins."""
        self._sink.blob(_SKIPPED + struct.pack("<I", len(data)))
        at = self._sink.size
        self._sink.blob(data)
        return at


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


_ONES = (1 << 64) - 1
_POLYNOMIAL = 0xD8 << 56  # x^64 + x^4 + x^3 + x + 1, the bits of every byte in reverse
_ROW = 512  # times 60 bits: a power of two, and what a core's first cache holds


def crc64(data: bytes, crc: int = 0) -> int:
    """Return the CRC-64 (ISO 3309) of data after data of that CRC, as tar-split has it.

    No library here has this one, and a loop over bytes would take an hour for an image. Squaring
    x^64 = x^4 + x^3 + x + 1 gives, for every power of two q, x^64q = (x^3q + 1)(x^q + 1): so two
    shifts of a long number remove its first 60q bits.
    """
    value, view = crc ^ _ONES, memoryview(data)  # the first bit is the lowest one
    row = 60 * _ROW // 8
    while len(view) > 4 * row:
        value = _without(value ^ int.from_bytes(view[:row], "little"), _ROW)
        view = view[row:]
    left = 8 * len(view)  # bits; `value` has 64 more
    value ^= int.from_bytes(view, "little")
    while left >= _FOLDED:
        q = 1 << ((left + 64) // 124).bit_length() - 1
        value = _without(value, q)
        left -= 60 * q
    for _ in range(left // 8):
        value = value >> 8 ^ _TABLE[value & 0xFF]
    return value ^ _ONES


_FOLDED = 2 * 124 - 64  # bits, the fewest that leave whole bytes


def _without(value: int, q: int) -> int:
    """Remove the first 60q bits of a number that may have 64q more."""
    first = value & ((1 << 60 * q) - 1)
    first ^= first << q
    return value >> 60 * q ^ first ^ first << 3 * q


def _remainder(octet: int) -> int:
    for _ in range(8):
        octet = octet >> 1 ^ (_POLYNOMIAL if octet & 1 else 0)
    return octet


_TABLE = tuple(_remainder(octet) for octet in range(256))
