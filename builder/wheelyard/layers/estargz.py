"""Makes a layer that can be mounted before it has arrived: eStargz, from a finished layer.

A reader fetches the table of contents at the end of the blob, and then only what is opened. Its
unit is a gzip member, so every file gets one of its own, and a large file one for every 4 MiB; the
members of small files are copied from the layer. Two files are added: a landmark, which says that
nothing is worth fetching ahead, and the table of contents. To other engines it is an ordinary
layer.

Source: containerd/stargz-snapshotter, docs/estargz.md and estargz/gzip.go.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tarfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from wheelyard.layers import gzipmember
from wheelyard.layers.errors import BlobError, unreadable
from wheelyard.layers.hashing import BlobSink
from wheelyard.layers.layer import Layer
from wheelyard.layers.tarheader import BLOCK, tar_header
from wheelyard.layers.toc import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

FORMAT = 1  # part of what remembers a layer: raise it whenever the bytes change
TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"  # annotations of the layer's descriptor
UNPACKED_SIZE = "io.containers.estargz.uncompressed-size"
TOC = "stargz.index.json"
LANDMARK = ".no.prefetch.landmark"
_LANDMARK_CONTENT = b"\x0f"
_CHUNK = 4 << 20
_LEVEL = 6  # once a layer, for all who pull it: as small as the wheels were; level 1: 3.1 % more
_FOOTER = 51  # bytes
_TOC_MAX = 256 << 20  # bytes; torch's, of 12,000 files and 1,300 chunks, has 4 MB
_HEADERS_MAX = 1 << 20  # bytes of one entry's headers, long names included
_KINDS = {"file": "reg", "dir": "dir", "symlink": "symlink", "hardlink": "hardlink"}
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class Tar(Protocol):
    """A stream of the inflated blob."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most `size`."""


def write_estargz(blob: Path, entries: Sequence[Entry], tar: Tar, target: Path) -> Layer:
    """Write the layer at `blob` as eStargz to `target`.

    `entries` is its table of contents, and `tar` the inflated blob. The result is a function of
    both. Raises BlobError if they do not agree.
    """
    with (
        blob.open("rb") as packed,
        target.open("wb") as file,
        BlobSink(file, threaded=False) as sink,
        unreadable(lambda why: BlobError(blob, why)),
    ):
        writer = _Writer(sink)
        writer.add(Entry(LANDMARK, "file", 0o444, 0, 0, 1), None, iter([_LANDMARK_CONTENT]))
        shared = any(entry.skip for entry in entries)  # members hold the headers, too
        for entry in entries:
            headers = _headers(tar)
            _check(blob, entry, headers)
            copied = None if shared else _own_member(packed, entry)
            writer.add(entry, headers, _content(tar, entry), copied)
        if tar.read(BLOCK).strip(b"\0"):
            raise BlobError(blob, "it has more entries than its table of contents")
        return writer.finish()


def toc_digest(blob: Path) -> str:
    """Return the digest of an eStargz blob's table of contents; raise BlobError if it has none."""
    with (
        blob.open("rb") as file,
        unreadable(lambda why: BlobError(blob, f"it is not eStargz: {why}")),
    ):
        end = max(file.seek(0, 2) - _FOOTER, 0)
        file.seek(end)
        start = int(file.read(_FOOTER)[16:32], 16)
        if not 0 <= end - start <= _TOC_MAX:
            raise BlobError(blob, f"its table of contents has {end - start:,} bytes")
        file.seek(start)
        tar = gzipmember.inflated(file.read(end - start), _TOC_MAX)
        size = tarfile.TarInfo.frombuf(tar[:BLOCK], "utf-8", "strict").size
        return f"sha256:{hashlib.sha256(tar[BLOCK : BLOCK + size]).hexdigest()}"


class _Writer:
    """Writes entries one after the other, and remembers what the table of contents says."""

    def __init__(self, sink: BlobSink) -> None:
        self._sink = sink
        self._rows: list[dict[str, Any]] = []
        self._pending = bytearray()  # tar bytes that no member of the blob holds yet

    def add(
        self,
        entry: Entry,
        headers: bytes | None,
        content: Iterator[bytes],
        copied: bytes | None = None,
    ) -> None:
        """Add an entry with its headers (None: new ones) and content in pieces of `_CHUNK`.

        `copied` is the gzip member that holds the content already.
        """
        headers = headers or tar_header(entry, 0)
        self._pending += headers
        row = _row(entry, headers)
        self._rows.append(row)
        if entry.kind != "file":
            return
        whole, done = hashlib.sha256(), 0
        for data in content:
            whole.update(data)
            part: dict[str, Any] = row if not done else {"name": entry.path, "type": "chunk"}
            if done:
                self._rows.append(part)
                part["chunkOffset"] = done
            done += len(data)
            if done < entry.size:
                part["chunkSize"] = len(data)
            part["offset"] = self._flush()
            part["chunkDigest"] = f"sha256:{hashlib.sha256(data).hexdigest()}"
            self._sink.blob(copied or gzipmember.compressed(data, _LEVEL))
            self._sink.tar(data)
        row["digest"] = f"sha256:{whole.hexdigest()}"
        self._pending += bytes(-entry.size % BLOCK)

    def finish(self) -> Layer:
        """Write the table of contents and the footer."""
        text = json.dumps(
            {"version": 1, "entries": self._rows}, separators=(",", ":"), ensure_ascii=True
        ).encode()
        start = self._flush()
        entry = Entry(TOC, "file", 0o444, 0, 0, len(text))
        tar = tar_header(entry, 0) + text + bytes(-len(text) % BLOCK + 2 * BLOCK)
        self._sink.tar(tar)
        self._sink.blob(gzipmember.compressed(tar, _LEVEL))
        self._sink.blob(_footer(start))
        digest, diff_id = self._sink.digests()
        return Layer(digest, diff_id, self._sink.size, self._sink.tar_size)

    def _flush(self) -> int:
        if self._pending:
            data = bytes(self._pending)
            self._sink.tar(data)
            self._sink.blob(gzipmember.literal(data))
            self._pending.clear()
        return self._sink.size


def _row(entry: Entry, headers: bytes) -> dict[str, Any]:
    """Return what the table of contents says of an entry, its content aside."""
    info = tarfile.TarInfo.frombuf(headers[-BLOCK:], "utf-8", "surrogateescape")
    moment = datetime.fromtimestamp(info.mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    row: dict[str, Any] = {
        "name": f"{entry.path}/" if entry.kind == "dir" else entry.path,
        "type": _KINDS[entry.kind],
        "modtime": moment,
        "mode": info.mode,
        "uid": entry.uid,
        "gid": entry.gid,
    }
    if entry.kind == "file" and entry.size:
        row["size"] = entry.size
    if entry.link:
        row["linkName"] = entry.link
    return row


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
        data = _exactly(tar, min(left, _CHUNK))
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


def _own_member(packed: BinaryIO, entry: Entry) -> bytes | None:
    """Return the one gzip member that holds a small file; None if there is not one."""
    if not 0 < entry.size <= _CHUNK:
        return None
    packed.seek(entry.offset)
    member = packed.read(entry.length)
    is_one = member.startswith(gzipmember.HEAD) and member.endswith(
        gzipmember.tail(entry.crc, entry.size)
    )
    return member if is_one else None


def _footer(start: int) -> bytes:
    """Return the empty gzip member that says where the table of contents begins."""
    extra = b"SG" + struct.pack("<H", 22) + b"%016xSTARGZ" % start
    head = b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff" + struct.pack("<H", len(extra))
    return head + extra + b"\x01\x00\x00\xff\xff" + bytes(8)
