"""zstd:chunked: the same tar, each file where the table says it is, and the tar made of files."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import random
import struct
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_estargz import LARGE, TREES, from_files, from_wheel, small_chunks

from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.images.assemble.store import LayerStore
from wheelyard.layers import toc, zstdchunked
from wheelyard.layers.errors import BlobError
from wheelyard.layers.layer import Layer
from wheelyard.layers.zstdchunked import crc64
from wheelyard.oci.blobs import StoredLayer
from wheelyard.publish.recompress import ZSTD, recompress, zstd_library
from wheelyard.settings import load_settings

zstd: Any = zstd_library()


def slow(data: bytes, crc: int) -> int:
    """CRC-64 as ISO 3309 has it, a bit at a time."""
    value = crc ^ (1 << 64) - 1
    for octet in data:
        value ^= octet
        for _ in range(8):
            value = value >> 1 ^ (0xD8 << 56 if value & 1 else 0)
    return value ^ (1 << 64) - 1


def test_the_checksum_is_that_of_the_standard() -> None:
    assert crc64(b"123456789") == 0xB90956C775A41001


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60) | st.integers(0, 20_000), st.integers(0, (1 << 64) - 1))
def test_the_checksum_is_that_of_a_slow_one(size: int, crc: int) -> None:
    data = random.Random(size).randbytes(size)
    assert crc64(data, crc) == slow(data, crc)


def chunked(folder: Path, layer: Layer) -> Layer:
    entries = toc.parse(toc.beside(folder / "blob").read_text(), layer.digest)
    packer = zstd.ZstdCompressor(level=3)
    with gzip.open(folder / "blob") as tar:
        return zstdchunked.write_chunked(folder / "blob", entries, tar, folder / "packed", packer)


def region(blob: bytes, annotation: str) -> bytes:
    """What podman reads: a part of the blob, which inflates to as many bytes as were said."""
    at, packed, size, *_ = map(int, annotation.split(":"))
    data: bytes = zstd.decompress(blob[at : at + packed])
    assert len(data) == size
    return data


@settings(max_examples=25, deadline=None)
@given(TREES, st.sampled_from([from_wheel, from_files]))
def test_it_is_the_same_tar_and_every_file_is_found(tree: dict[str, bytes], make: Any) -> None:
    with small_chunks():
        is_the_same_tar(tree, make)


@pytest.mark.parametrize("make", [from_wheel, from_files])
def test_a_large_file_is_found(make: Any) -> None:
    is_the_same_tar(LARGE, make)


def is_the_same_tar(tree: dict[str, bytes], make: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        layer = make(folder, tree)
        made, blob = chunked(folder, layer), (folder / "packed").read_bytes()
        tar = gzip.decompress((folder / "blob").read_bytes())
        with zstd.open(folder / "packed") as whole:
            assert whole.read() == tar
        assert made.digest == f"sha256:{hashlib.sha256(blob).hexdigest()}"
        assert made.diff_id == layer.diff_id
        assert (made.size, made.unpacked_size) == (len(blob), len(tar))
        told = zstdchunked.read_annotations(folder / "packed")
        at, packed, *_ = map(int, told[zstdchunked.POSITION].split(":"))
        digest = f"sha256:{hashlib.sha256(blob[at : at + packed]).hexdigest()}"
        assert told[zstdchunked.CHECKSUM] == digest
        table = json.loads(region(blob, told[zstdchunked.POSITION]))
        files = contents(table["entries"], blob)
        at, packed, _ = map(int, told[zstdchunked.TAR_SPLIT].split(":"))
        split = blob[at : at + packed]
        assert table["tarSplitDigest"] == f"sha256:{hashlib.sha256(split).hexdigest()}"
        assert assembled(region(blob, told[zstdchunked.TAR_SPLIT]), files) == tar
        compare(table["entries"], files, tar)


def contents(rows: list[dict[str, Any]], blob: bytes) -> dict[str, bytes]:
    """Files by name, each inflated from its own part of the blob and held to its digest."""
    files = {row["name"]: b"" for row in rows if row["type"] == "reg"}
    for row in rows:
        if "offset" in row:
            data = zstd.decompress(blob[row["offset"] : row["endOffset"]])
            assert row["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
            assert row["size"] == len(data)
            files[row["name"]] = data
    return files


def assembled(split: bytes, files: dict[str, bytes]) -> bytes:
    """Make a tar of its record and the files, as tar-split does."""
    tar = b""
    for number, line in enumerate(split.splitlines()):
        entry = json.loads(line)
        assert entry["position"] == number
        if entry["type"] == 2:
            tar += base64.b64decode(entry["payload"])
        elif entry.get("size"):
            data = files[entry["name"]]
            assert base64.b64decode(entry["payload"]) == struct.pack(">Q", crc64(data))
            tar += data
    return tar


def compare(rows: list[dict[str, Any]], files: dict[str, bytes], tar: bytes) -> None:
    """Hold the table to the tar: podman makes files of the one, and refuses another one."""
    kinds = {tarfile.REGTYPE: "reg", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink"}
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for row, info in zip(rows, archive, strict=True):
            assert row["name"].rstrip("/") == info.name
            assert row["name"].endswith("/") == info.isdir()
            seen = (row["type"], row["mode"], row["uid"], row["gid"], row.get("linkName", ""))
            assert seen == (kinds[info.type], info.mode, info.uid, info.gid, info.linkname)
            assert row["modtime"] == "1980-01-01T00:00:00Z"
            if info.isreg():
                assert len(files[row["name"]]) == info.size == row.get("size", 0)


def odd(kind: str) -> bytes:
    """A tar as a registry's base may have it, of which podman refuses a table or a tar-split."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a")
        if kind == "attribute":
            info.pax_headers = {"SCHILY.xattr.user.x": "y"}
        elif kind == "device":
            info.type = tarfile.CHRTYPE
        elif kind == "dot":
            info.name = "./a"
        archive.addfile(info)
        if kind == "twice":
            archive.addfile(info)
    return made.getvalue() + bytes(2 << 20 if kind == "long end" else 0)


@pytest.mark.parametrize("kind", ["attribute", "device", "dot", "twice", "long end"])
def test_what_podman_would_refuse_is_one_stream(kind: str, tmp_path: Path) -> None:
    """Another engine takes it, and podman pulls it whole."""
    tar = odd(kind)
    blob = gzip.compress(tar)
    (tmp_path / "blob").write_bytes(blob)
    digest, diff_id = (f"sha256:{hashlib.sha256(x).hexdigest()}" for x in (blob, tar))
    store = LayerStore(tmp_path / "cache")
    layer = StoredLayer(Layer(digest, diff_id, len(blob), 0), tmp_path / "blob")
    context = Context(load_settings({}), QuietReporter(None))
    stored = recompress(ZSTD, [layer], store, context)[digest]
    assert stored.layer.diff_id == diff_id
    assert zstd.decompress(stored.path.read_bytes()) == tar
    assert zstdchunked.read_annotations(stored.path) == {}


def test_more_in_the_tar_than_in_the_table(tmp_path: Path) -> None:
    layer = from_files(tmp_path, {"demo/a.txt": b"a"})
    entries = toc.parse(toc.beside(tmp_path / "blob").read_text(), layer.digest)[:-1]
    with gzip.open(tmp_path / "blob") as tar, pytest.raises(BlobError, match="more entries"):
        zstdchunked.write_chunked(
            tmp_path / "blob", entries, tar, tmp_path / "packed", zstd.ZstdCompressor(level=3)
        )


@pytest.mark.parametrize("content", [b"", b"x" * 10, b"x" * 100])
def test_another_blob_has_no_annotations(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "blob").write_bytes(content)
    assert zstdchunked.read_annotations(tmp_path / "blob") == {}
