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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from wheelyard.layers import gzipmember, walk
from wheelyard.layers.errors import BlobError, unreadable
from wheelyard.layers.hashing import BlobSink
from wheelyard.layers.layer import Layer
from wheelyard.layers.tarheader import BLOCK, tar_header
from wheelyard.layers.toc import Entry

FORMAT = 1  # part of what remembers a layer: raise it whenever the bytes change
TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"  # annotations of the layer's descriptor
UNPACKED_SIZE = "io.containers.estargz.uncompressed-size"
TOC = "stargz.index.json"
LANDMARK = ".no.prefetch.landmark"
_LANDMARK_CONTENT = b"\x0f"
_LEVEL = 6  # once a layer, for all who pull it: as small as the wheels were; level 1: 3.1 % more
_FOOTER = 51  # bytes
_TOC_MAX = 256 << 20  # bytes; torch's, of 12,000 files and 1,300 chunks, has 4 MB


def write_estargz(blob: Path, entries: Sequence[Entry], tar: walk.Tar, target: Path) -> Layer:
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
        for entry, headers, content in walk.walk(blob, entries, tar):
            copied = None if shared else _own_member(packed, entry)
            writer.add(entry, headers, content, copied)
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
        """Add an entry with its headers (None: new ones) and content in pieces of a chunk.

        `copied` is the gzip member that holds the content already.
        """
        headers = headers or tar_header(entry, 0)
        self._pending += headers
        row = walk.row(entry, headers)
        self._rows.append(row)
        if entry.kind != "file":
            return
        whole, done = hashlib.sha256(), 0
        for data in content:
            part: dict[str, Any] = row if not done else {"name": entry.path, "type": "chunk"}
            if done:
                self._rows.append(part)
                part["chunkOffset"] = done
            done += len(data)
            if done < entry.size:
                part["chunkSize"] = len(data)
            part["offset"] = self._flush()
            chunk = hashlib.sha256(data)
            part["chunkDigest"] = f"sha256:{chunk.hexdigest()}"
            if len(data) == entry.size:
                whole = chunk
            else:
                whole.update(data)
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


def _own_member(packed: BinaryIO, entry: Entry) -> bytes | None:
    """Return the one gzip member that holds a small file; None if there is not one."""
    if not 0 < entry.size <= walk.CHUNK:
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
