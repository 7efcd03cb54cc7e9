"""eStargz: the same files, each chunk where the table of contents says it is."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wheels import make_wheel

from wheelyard.layers import estargz, toc, walk
from wheelyard.layers.errors import BlobError
from wheelyard.layers.gzipmember import inflated
from wheelyard.layers.install import Environment
from wheelyard.layers.layer import Layer, LayerWriter
from wheelyard.layers.wheels import WheelInput, write_layer

SMALL = st.binary(max_size=2000)
TREES = st.dictionaries(
    st.text("abcé文-", min_size=1, max_size=40).map(lambda name: f"demo/{name}.txt"),
    SMALL | st.integers(1, 9).map(lambda count: b"x" * (count << 16)),
    min_size=1, max_size=5,
)  # fmt: skip
LARGE = {"demo/large.txt": b"x" * (9 << 20), "demo/more.txt": b"y" * (4 << 20), "demo/a.txt": b"a"}


@contextmanager
def small_chunks() -> Iterator[None]:
    """A sixteenth of the size, so that trees of kilobytes have what else takes megabytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "CHUNK", walk.CHUNK // 16)
        yield


def from_wheel(folder: Path, tree: dict[str, bytes]) -> Layer:
    wheel = WheelInput(make_wheel(folder, files=tree), "demo", "1.0")
    return write_layer(folder / "blob", [wheel], Environment("env", "3.11", {}))


def from_files(folder: Path, tree: dict[str, bytes]) -> Layer:
    """A layer as a base's is: members of many files, and every kind of entry."""
    with LayerWriter(folder / "blob", packed=True) as writer:
        writer.directory("demo", 0o2775, 3, 5)
        for path, content in tree.items():
            writer.file(path, content, 0o640, 7, 9)
        writer.symlink("demo/link", "../else where")
        return writer.finish()


def lazy(folder: Path, layer: Layer) -> tuple[Layer, bytes]:
    entries = toc.parse(toc.beside(folder / "blob").read_text(), layer.digest)
    with gzip.open(folder / "blob") as tar:
        made = estargz.write_estargz(folder / "blob", entries, tar, folder / "lazy")
    return made, (folder / "lazy").read_bytes()


def contents(tar: bytes) -> dict[str, tuple[Any, ...]]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {
            info.name: (
                info.type, info.mode, info.uid, info.gid, info.mtime, info.linkname,
                (archive.extractfile(info) or io.BytesIO()).read() if info.isreg() else None,
            )
            for info in archive
        }  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(TREES, st.sampled_from([from_wheel, from_files]))
def test_it_has_the_same_files_and_finds_every_chunk(tree: dict[str, bytes], make: Any) -> None:
    with small_chunks():
        has_the_same_files(tree, make)


@pytest.mark.parametrize("make", [from_wheel, from_files])
def test_a_large_file_is_chunks_of_four_mebibytes(make: Any) -> None:
    assert walk.CHUNK == 4 << 20
    has_the_same_files(LARGE, make)


def has_the_same_files(tree: dict[str, bytes], make: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        layer = make(folder, tree)
        made, blob = lazy(folder, layer)
        tar = gzip.decompress(blob)
        assert made.digest == f"sha256:{hashlib.sha256(blob).hexdigest()}"
        assert made.diff_id == f"sha256:{hashlib.sha256(tar).hexdigest()}"
        assert (made.size, made.unpacked_size) == (len(blob), len(tar))
        before, after = contents(gzip.decompress((folder / "blob").read_bytes())), contents(tar)
        added = {estargz.TOC, estargz.LANDMARK}
        assert {path: x for path, x in after.items() if path not in added} == before
        text = after[estargz.TOC][-1]
        assert estargz.toc_digest(folder / "lazy") == f"sha256:{hashlib.sha256(text).hexdigest()}"
        assert list(after)[-1] == estargz.TOC
        rows = json.loads(text)["entries"]
        for path, content in chunks(rows, blob).items():
            assert content == after[path][-1]
        files = {row["name"] for row in rows if row["type"] == "reg"}
        assert files == {path for path, x in after.items() if x[0] == tarfile.REGTYPE} - {
            estargz.TOC
        }
        offsets = [row["offset"] for row in rows if "offset" in row]
        assert len(offsets) == len(set(offsets))


def chunks(rows: list[dict[str, Any]], blob: bytes) -> dict[str, bytes]:
    """Read files as a snapshotter does: one gzip member a chunk, held to its digest."""
    read: dict[str, bytes] = {}
    starts = sorted({row["offset"] for row in rows if "offset" in row})
    for row in rows:
        if row["type"] not in ("reg", "chunk") or "offset" not in row:
            continue
        end = next((at for at in starts if at > row["offset"]), len(blob))
        content = inflated(blob[row["offset"] : end], walk.CHUNK)
        assert row["chunkDigest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert row.get("chunkOffset", 0) == len(read.get(row["name"], b""))
        assert row.get("chunkSize", len(content)) == len(content)
        read[row["name"]] = read.get(row["name"], b"") + content
    for row in rows:
        if row["type"] == "reg":
            content = read.setdefault(row["name"], b"")
            assert row["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
            assert row.get("size", 0) == len(content)
    return read


def test_it_is_made_the_same_again_and_copies_what_a_wheel_has_packed(tmp_path: Path) -> None:
    layer = from_wheel(tmp_path, {"demo/a.txt": b"some text " * 300})
    first = lazy(tmp_path, layer)
    assert lazy(tmp_path, layer) == first
    entries = toc.parse(toc.beside(tmp_path / "blob").read_text(), layer.digest)
    (entry,) = (entry for entry in entries if entry.path.endswith("a.txt"))
    member = (tmp_path / "blob").read_bytes()[entry.offset : entry.offset + entry.length]
    assert member in first[1]


@pytest.mark.parametrize("fault", ["fewer", "more", "another kind", "cut"])
def test_a_table_of_contents_of_something_else_is_refused(tmp_path: Path, fault: str) -> None:
    layer = from_files(tmp_path, {"demo/a": b"1" * 600, "demo/b": b"2"})
    entries = toc.parse(toc.beside(tmp_path / "blob").read_text(), layer.digest)
    tar = gzip.decompress((tmp_path / "blob").read_bytes())
    if fault == "fewer":
        del entries[-1]
    elif fault == "more":
        entries.append(entries[-1])
    elif fault == "another kind":
        entries[1], entries[3] = entries[3], entries[1]
    else:
        tar = tar[:1200]
    with pytest.raises(BlobError):
        estargz.write_estargz(tmp_path / "blob", entries, io.BytesIO(tar), tmp_path / "lazy")


@pytest.mark.parametrize("end", [b"", bytes(51), b"\x1f\x8b" * 40])
def test_a_blob_without_a_table_of_contents_is_named(tmp_path: Path, end: bytes) -> None:
    (tmp_path / "blob").write_bytes(end)
    with pytest.raises(BlobError, match="eStargz"):
        estargz.toc_digest(tmp_path / "blob")
