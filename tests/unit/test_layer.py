"""A layer is a function of its content; its table of contents is what the blob holds."""

import gzip
import hashlib
import io
import random
import tarfile
from pathlib import Path

import pytest
from wheels import make_wheel

from wheelyard.errors import StorageError
from wheelyard.layers import toc
from wheelyard.layers.layer import Layer, LayerWriter
from wheelyard.layers.tarheader import EPOCH
from wheelyard.layers.wheel import Wheel
from wheelyard.oci.reindex import reindex

LONG = "opt/venv/" + "/".join(["a-rather-long-folder-name"] * 9) + "/file.txt"


def write(path: Path, *, packed: bool = False) -> tuple[Layer, list[toc.Entry]]:
    with LayerWriter(path, packed=packed) as writer:
        for folder in toc.parents(LONG):
            writer.directory(folder, 0o2775, 0, 900)
        writer.file("opt/venv/empty", b"", 0o664, 0, 900)
        writer.file("opt/venv/small.txt", b"hello\n", 0o775, 0, 900)
        writer.file("opt/venv/big.bin", bytes(range(256)) * 12_000, 0o664, 0, 900)
        writer.file(LONG, b"long", 0o664, 0, 900)
        writer.file("opt/venv/naïve-文件.txt", "ß".encode(), 0o664, 0, 900)
        writer.symlink("opt/venv/link", "small.txt", 0, 900)
        return writer.finish(), writer.entries


@pytest.mark.parametrize("packed", [False, True])
def test_digests_and_contents(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "blob"
    layer, entries = write(path, packed=packed)
    blob = path.read_bytes()
    tar = gzip.decompress(blob)
    assert layer.digest == f"sha256:{hashlib.sha256(blob).hexdigest()}"
    assert layer.diff_id == f"sha256:{hashlib.sha256(tar).hexdigest()}"
    assert (layer.size, layer.unpacked_size) == (len(blob), len(tar))
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        infos = archive.getmembers()
        assert [info.name for info in infos] == [entry.path for entry in entries]
        for info, entry in zip(infos, entries, strict=True):
            assert (info.mode, info.uid, info.gid, info.mtime) == (
                entry.mode, entry.uid, entry.gid, EPOCH,
            )  # fmt: skip
            if entry.kind == "file":
                extracted = archive.extractfile(info)
                assert extracted is not None
                assert toc.read_content(path, entry) == extracted.read()


@pytest.mark.parametrize("packed", [False, True])
def test_same_content_same_bytes(tmp_path: Path, packed: bool) -> None:
    first, _ = write(tmp_path / "a", packed=packed)
    second, _ = write(tmp_path / "b", packed=packed)
    assert first == second
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("packed", [False, True])
def test_contents_can_be_read_back_from_the_blob(tmp_path: Path, packed: bool) -> None:
    layer, entries = write(tmp_path / "blob", packed=packed)
    again = reindex(tmp_path / "blob", layer.digest, layer.diff_id, lambda _: None)
    assert again == entries
    assert toc.parse(toc.dump(entries, layer.digest), layer.digest) == entries


def test_a_wheel_s_streams_are_copied_not_packed_again(tmp_path: Path) -> None:
    content = b"some text that compresses " * 5000
    path = make_wheel(tmp_path, files={"demo/data.txt": content})
    with Wheel(path) as wheel, LayerWriter(tmp_path / "blob") as writer:
        member = wheel.members["demo/data.txt"]
        writer.member("data.txt", wheel, member, 0o664, 900)
        writer.finish()
        stream = b"".join(wheel.packed(member))
    assert stream in (tmp_path / "blob").read_bytes()
    assert toc.read_content(tmp_path / "blob", writer.entries[0]) == content


@pytest.mark.parametrize("packed", [False, True])
def test_one_flipped_bit_is_noticed(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "blob"
    layer, entries = write(path, packed=packed)
    entry = next(e for e in entries if e.path.endswith("big.bin"))
    blob = bytearray(path.read_bytes())
    blob[entry.offset + entry.length // 2] ^= 0x10
    path.write_bytes(blob)
    with pytest.raises(StorageError, match=r"damaged|expected|is sha256"):
        reindex(path, layer.digest, layer.diff_id, lambda _: None)


def test_half_a_blob_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    layer, _ = write(path)
    path.write_bytes(path.read_bytes()[: layer.size // 2])
    with pytest.raises(StorageError, match=r"damaged"):
        reindex(path, layer.digest, layer.diff_id, lambda _: None)


def test_hashing_on_a_second_core_gives_the_same_bytes(tmp_path: Path) -> None:
    results = []
    for threaded in (False, True):
        with LayerWriter(tmp_path / str(threaded), threaded=threaded) as writer:
            for i in range(50):
                writer.file(f"f{i}", bytes([i]) * 70_000, 0o644)
            results.append(writer.finish())
    assert results[0] == results[1]
    assert (tmp_path / "True").read_bytes() == (tmp_path / "False").read_bytes()


@pytest.mark.parametrize("threaded", [False, True])
def test_a_full_disk_is_noticed_on_either_core(threaded: bool) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    with pytest.raises(OSError, match="No space left"):
        write_noise(full, threaded=threaded)


def write_noise(path: Path, *, threaded: bool) -> None:
    with LayerWriter(path, threaded=threaded) as writer:
        writer.file("a", random.Random(1).randbytes(5_000_000), 0o644)
        writer.finish()


def test_a_path_goes_in_once(tmp_path: Path) -> None:
    with LayerWriter(tmp_path / "blob") as writer:
        writer.file("a", b"1", 0o644)
        with pytest.raises(ValueError, match="twice"):
            writer.file("a", b"2", 0o644)


def test_nothing_goes_in_before_the_folders_above_it(tmp_path: Path) -> None:
    with LayerWriter(tmp_path / "blob") as writer:
        writer.directory("usr", 0o755)
        writer.file("file", b"", 0o644)
        for path in ("usr/local/cuda", "opt/venv", "file/below"):
            with pytest.raises(ValueError, match="before its folder"):
                writer.symlink(path, "x")
        writer.directory("usr/local", 0o755)
        writer.symlink("usr/local/cuda", "x")


def test_a_full_disk_is_an_error_not_a_short_blob(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    with pytest.raises(OSError, match="No space left"):
        write(full)
