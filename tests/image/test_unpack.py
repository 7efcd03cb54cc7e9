"""The chroot suites depend on this: layers are applied as the OCI image specification says."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from wheelyard.errors import StorageError
from wheelyard.oci.unpack import unpack


def write_layer(path: Path, *entries: tuple[str, bytes | None]) -> Path:
    """A layer of files (content) and folders (None), owned by whoever runs the test."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.mode = 0o755
            info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))
    # Two gzip members in a row: a layer may be made of many.
    raw = packed.getvalue()
    path.write_bytes(gzip.compress(raw[:512], mtime=0) + gzip.compress(raw[512:], mtime=0))
    return path


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def test_upper_layers_replace_files(tmp_path: Path, root: Path) -> None:
    lower = write_layer(tmp_path / "1", ("a", None), ("a/x", b"old"))
    upper = write_layer(tmp_path / "2", ("a/x", b"new"))
    unpack([lower, upper], root)
    assert (root / "a/x").read_bytes() == b"new"


def test_a_whiteout_removes_a_file_or_a_folder(tmp_path: Path, root: Path) -> None:
    lower = write_layer(tmp_path / "1", ("a", None), ("a/x", b"1"), ("b", None), ("b/y", b"2"))
    upper = write_layer(tmp_path / "2", ("a/.wh.x", b""), (".wh.b", b""))
    unpack([lower, upper], root)
    assert names(root) == ["a"]


def test_an_opaque_folder_hides_what_lies_below(tmp_path: Path, root: Path) -> None:
    lower = write_layer(tmp_path / "1", ("a", None), ("a/x", b"1"))
    upper = write_layer(tmp_path / "2", ("a", None), ("a/.wh..wh..opq", b""), ("a/y", b"2"))
    unpack([lower, upper], root)
    assert names(root) == ["a", "a/y"]


def test_a_file_takes_the_place_of_a_folder(tmp_path: Path, root: Path) -> None:
    lower = write_layer(tmp_path / "1", ("a", None), ("a/x", b"1"))
    unpack([lower, write_layer(tmp_path / "2", ("a", b"file"))], root)
    assert (root / "a").read_bytes() == b"file"


def test_a_link_in_a_lower_layer_is_replaced_not_followed(tmp_path: Path, root: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"safe")
    (root / "a").symlink_to(outside)
    unpack([write_layer(tmp_path / "1", ("a", b"file"))], root)
    assert outside.read_bytes() == b"safe"
    assert not (root / "a").is_symlink()


def test_a_path_out_of_the_image_is_refused(tmp_path: Path, root: Path) -> None:
    with pytest.raises(StorageError, match="leads out of the image"):
        unpack([write_layer(tmp_path / "1", ("../x", b""))], root)
