"""An image's files as inspection sees them, held against what a root file system has."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from test_flatten import Content, contents, layer, together

from wheelyard.engines.readback import read_layers
from wheelyard.errors import InspectError, StorageError, WheelError
from wheelyard.images.inspect.distributions import dependency_problems, installed
from wheelyard.images.inspect.tree import LayerContents, Tree
from wheelyard.layers import toc
from wheelyard.oci.reindex import reindex
from wheelyard.system.storage import file_digest

TORCH: dict[str, Content] = {"s": None, "s/torch": None, "s/torch/a.py": b"a", "s/b.py": b"b"}


def read(folder: Path, *layers: Mapping[str, Content], wheels: tuple[int, ...] = ()) -> Tree:
    found = []
    for at, entries in enumerate(layers):
        blob = layer(folder / f"{at}.tar.gz", entries)
        diff_id = folder / "tar"
        diff_id.write_bytes(gzip.decompress(blob.read_bytes()))
        listed = reindex(blob, file_digest(blob), file_digest(diff_id), lambda _: None)
        found.append(LayerContents(blob, listed, f"layer {at}", at in wheels))
    return Tree(found)


@pytest.mark.parametrize(
    "upper",
    [
        {".wh.s": b""},
        {"s/.wh.torch": b""},
        {"s/torch/.wh.a.py": b""},
        {"s/.wh..wh..opq": b""},
        {".wh..wh..opq": b"", "s": None, "s/new": b"n"},
        {"s/.wh..wh..opq": b"", "s/torch": None, "s/torch/new.py": b"n"},
        {"s/torch": b"a file now"},
        {"s/b.py": None, "s/b.py/below": b"x"},
        {"s/.wh.b.py": b"", "s/b.py": b"again"},
        {"s": None, "s/torch": None},
        {".wh.nothing": b"", "s/torch/.wh.nothing": b""},
    ],
)
def test_whiteouts_and_replaced_kinds(tmp_path: Path, upper: dict[str, Content]) -> None:
    """As flattened, as read back from an engine, and as inspection has it: the same."""
    tree = read(tmp_path, TORCH, upper)
    expected = contents(together(tmp_path, TORCH, upper))
    assert {
        entry.path: tree.read(entry.path) if entry.kind == "file" else entry.kind for entry in tree
    } == expected
    listed = read_layers([tmp_path / "0.tar.gz", tmp_path / "1.tar.gz"])
    assert {entry.path for entry in listed} == set(expected)


def test_a_layer_of_wheels_may_not_replace_what_is_below(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match=r"two layers hold /s/b\.py with different content"):
        read(tmp_path, TORCH, {"s/b.py": b"mine"}, wheels=(1,))
    with pytest.raises(WheelError, match="two layers hold /s/torch with"):
        read(tmp_path, TORCH, {"s/torch": b"mine"}, wheels=(0, 1))
    with pytest.raises(WheelError, match=r"two layers hold /s/b\.py with"):
        read(tmp_path, TORCH, {"s/b.py": None}, wheels=(1,))
    assert "s/b.py" in read(tmp_path, TORCH, {"s/b.py": b"b"}, wheels=(1,))


def test_hard_links_end_somewhere(tmp_path: Path) -> None:
    tree = read(tmp_path, {"a": "b", "b": "a", "c": "d", "d": b"data"})
    assert tree.read("c") == b"data"
    with pytest.raises(InspectError, match="link to itself"):
        tree.read("a")


def test_what_is_read_whole_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = read(tmp_path, {"a": b"content"})
    monkeypatch.setattr(toc, "LARGEST", 3)
    with pytest.raises(StorageError, match="7 bytes"):
        tree.read("a")


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_content_streams(tmp_path: Path, size: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    tree = read(tmp_path, {"before": b"x" * 700, "a": content[:size], "after": b"y"})
    assert tree.read("a") == content[:size]


@pytest.mark.parametrize("field", [b"mtime=1e999", b"path=\0", b"uid=x", b"GNU.sparse.map=a"])
def test_a_tar_that_its_reader_chokes_on_is_damaged(tmp_path: Path, field: bytes) -> None:
    record = field + b"\n"
    record = str(len(record) + 3).encode() + b" " + record
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    plain = tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT)
    tar = info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + plain + bytes(1024)
    blob = tmp_path / "blob"
    blob.write_bytes(gzip.compress(tar))
    with pytest.raises(StorageError, match=r"blob|do not use this image"):
        reindex(blob, "sha256:0", "sha256:0", lambda _: None)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [("", "does not name a distribution"), ("Name: a\n", "does not name a distribution")],
)
def test_metadata_without_a_name(tmp_path: Path, metadata: str, message: str) -> None:
    tree = read(tmp_path, {"s": None, "s/a.dist-info": None,
                           "s/a.dist-info/METADATA": metadata.encode()})  # fmt: skip
    with pytest.raises(InspectError, match=message):
        installed(tree, "s")


@pytest.mark.parametrize("requirement", ["a ===", "a>=1; nobody == '1'", "a>1"])
def test_requirements_that_nobody_can_read(tmp_path: Path, requirement: str) -> None:
    text = f"Name: a\nVersion: no version\nRequires-Dist: {requirement}\n"
    tree = read(tmp_path, {"s": None, "s/a.dist-info": None,
                           "s/a.dist-info/METADATA": text.encode()})  # fmt: skip
    (problem,) = dependency_problems(tree, "s", "3.11")
    assert "invalid requirement" in problem or "is installed" in problem
