"""Whatever an archive holds, nothing of it lands, or is removed, outside the root."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from wheelyard.errors import BaseImageError, StorageError
from wheelyard.images.assemble.flatten import flatten
from wheelyard.oci.unpack import make_mount_points, unpack
from wheelyard.system.rootfolder import OutsideError, entry_path, resolve

LINK, HARD, FOLDER = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
Entry = tuple[str, bytes | None, Any]  # name, type (None: a file), target or content


def pack(path: Path, entries: Sequence[Entry]) -> Path:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, what in entries:
            info = tarfile.TarInfo(name)
            info.mode, info.uid, info.gid = 0o644, os.geteuid(), os.getegid()
            if kind is None:
                info.size = len(what)
                archive.addfile(info, io.BytesIO(what))
                continue
            info.type, info.mode = kind, 0o755
            if isinstance(what, str):
                info.linkname = what
            archive.addfile(info)
    path.write_bytes(gzip.compress(data.getvalue(), 1))
    return path


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of the host's, with a file and a folder in it."""
    folder = tmp_path / "victim"
    (folder / "kept").mkdir(parents=True)
    (folder / "keep").write_bytes(b"safe")
    (folder / "kept" / "too").write_bytes(b"safe")
    folder.chmod(0o751)
    return folder


def tree(folder: Path) -> list[tuple[str, int, bytes]]:
    found = [(".", folder.stat().st_mode, b"")]
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        found.append((str(path.relative_to(folder)), path.lstat().st_mode, content))
    return found


def hostile(victim: Path) -> dict[str, list[list[Entry]]]:
    """Layers by what they try."""
    out = str(victim)
    up = os.path.relpath("/", "/a/b/c") + out  # from three folders below the root
    return {
        "a file below a link": [[("a", LINK, out), ("a/x", None, b"evil")]],
        "in a later layer": [[("a", LINK, out)], [("a/x", None, b"evil")]],
        "a file over one there": [[("a", LINK, out), ("a/keep", None, b"evil")]],
        "a folder below a link": [[("a", LINK, out), ("a/kept", FOLDER, None)]],
        "a link to a link": [[("b", LINK, out), ("a", LINK, "b"), ("a/x", None, b"evil")]],
        "a relative link": [[("a/b/c", LINK, f"../..{up}"), ("a/b/c/x", None, b"evil")]],
        "a link that climbs": [[("a", LINK, "../" * 40 + out), ("a/x", None, b"evil")]],
        "a link in the middle": [
            [("a/b", LINK, "../../../../"), (f"a/b/{victim.relative_to('/')}/x", None, b"evil")]
        ],
        "a whiteout below a link": [[("a", LINK, out), ("a/.wh.keep", None, b"")]],
        "of a folder": [[("a", LINK, out), ("a/.wh.kept", None, b"")]],
        "in a later layer too": [[("a", LINK, out)], [("a/.wh.keep", None, b"")]],
        "an opaque link": [[("a", LINK, out), ("a/.wh..wh..opq", None, b"")]],
        "a hard link outside": [[("h", HARD, f"{out}/keep"), ("h", None, b"evil")]],
        "a hard link by a link": [
            [("a", LINK, out), ("h", HARD, "a/keep")], [("h", None, b"evil")]
        ],
        "a hard link below a link": [[("f", None, b"1"), ("a", LINK, out), ("a/keep", HARD, "f")]],
        "a mode by a link": [[("a", LINK, out), ("a", FOLDER, None)]],
        "a mode by a dot": [[("a", LINK, out), ("a/.", FOLDER, None)]],
        "an absolute name": [[(f"{out}/keep", None, b"evil")]],
        "two slashes": [[(f"//{out}//keep", None, b"evil")]],
        "a name that climbs": [[("../" * 40 + f"{out}/keep", None, b"evil")]],
        "one that climbs late": [[("usr/lib/python3.11" + "/.." * 40 + f"{out}/x", None, b"evil")]],
        "a hard link that climbs": [[("h", HARD, "../" * 40 + f"{out}/keep")]],
        "a whiteout of the parent": [[("a", FOLDER, None), ("a/.wh...", None, b"")]],
        "a whiteout of the root": [[(".wh...", None, b""), (".wh..", None, b"")]],
        "a whiteout that climbs": [[(f"../{victim.name}/.wh.keep", None, b"")]],
        "a link loop": [[("a", LINK, "b"), ("b", LINK, "a"), ("a/x", None, b"evil")]],
        "a file as a folder": [[("a", None, b"1"), ("a/x", None, b"evil")]],
        "a hard link to nothing": [[("h", HARD, "nothing")]],
        "a hard link to itself": [[("h", HARD, "h")]],
        "a thousand folders": [[("d/" * 1000 + "x", None, b"evil")]],
    }  # fmt: skip


NAMES = list(hostile(Path("/victim")))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_leaves_the_root(tmp_path: Path, victim: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    layers = [
        pack(tmp_path / f"{at}.tar.gz", entries) for at, entries in enumerate(hostile(victim)[name])
    ]
    before = tree(victim)
    beside = sorted(path.name for path in tmp_path.iterdir())
    with suppress(OutsideError):
        unpack(layers, root)
    assert tree(victim) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == beside
    assert (victim / "keep").stat().st_nlink == 1


@pytest.mark.parametrize("name", NAMES)
def test_and_nothing_in_the_model_of_it(tmp_path: Path, victim: Path, name: str) -> None:
    """What the interpreter is taken out of has no path that climbs, or that lies below a link."""
    layers = [
        pack(tmp_path / f"{at}.tar.gz", entries) for at, entries in enumerate(hostile(victim)[name])
    ]
    try:
        nodes = flatten(layers, tmp_path / "all.tar").nodes
    except BaseImageError:
        return
    for path in nodes:
        assert ".." not in path.split("/")
        assert not path.startswith("/")
        folder = path.rpartition("/")[0]
        while folder:
            assert folder not in nodes or nodes[folder].entry.kind == "dir", (path, folder)
            folder = folder.rpartition("/")[0]


def test_links_inside_are_followed(tmp_path: Path) -> None:
    """As usr-merged images need it: lib is a link, and packages of a later layer name it."""
    root = tmp_path / "root"
    root.mkdir()
    lower = pack(
        tmp_path / "1", [("usr/lib", FOLDER, None), ("lib", LINK, "usr/lib"), ("b", LINK, "/lib")]
    )
    upper = pack(tmp_path / "2", [("lib/x", None, b"1"), ("b/y", None, b"2"), ("z", HARD, "b/y")])
    unpack([lower, upper], root)
    assert (root / "usr/lib/x").read_bytes() == b"1"
    assert (root / "usr/lib/y").read_bytes() == b"2"
    assert (root / "z").samefile(root / "usr/lib/y")
    assert (root / "lib").is_symlink()
    flat = flatten([lower, upper], tmp_path / "all.tar")
    assert flat.read("usr/lib/x") == b"1"
    assert "lib/x" not in flat.nodes


def test_no_device_is_made(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    devices = [("dev/sda", tarfile.BLKTYPE, None), ("dev/mem", tarfile.CHRTYPE, None)]
    unpack([pack(tmp_path / "1", [*devices, ("p", tarfile.FIFOTYPE, None)])], root)
    kinds = [path.lstat().st_mode for path in root.rglob("*")]
    assert not any(stat.S_ISBLK(mode) or stat.S_ISCHR(mode) for mode in kinds)
    assert stat.S_ISFIFO((root / "p").lstat().st_mode)


def test_mount_points_are_folders_of_the_root(tmp_path: Path, victim: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "dev").symlink_to(victim)
    (root / "proc").write_bytes(b"")
    before = tree(victim)
    make_mount_points(root)
    assert tree(victim) == before
    for name in ("dev", "proc"):
        assert stat.S_ISDIR((root / name).lstat().st_mode)


def test_strange_times_and_owners(tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, mtime in (("a", "1e400"), ("b", "-5"), ("c", "nan")):
            info = tarfile.TarInfo(name)
            info.pax_headers = {"mtime": mtime, "uid": "-1", "gid": str(1 << 40)}
            archive.addfile(info)
    layer = tmp_path / "1"
    layer.write_bytes(gzip.compress(data.getvalue()))
    root = tmp_path / "root"
    root.mkdir()
    unpack([layer], root)
    assert {path.stat().st_mtime for path in root.iterdir()} == {0}


def negative_size() -> bytes:
    """CVE-2025-8194: a header whose size leads back to it."""
    info = tarfile.TarInfo("x")
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 10 + b"\xfe\x00"  # -512
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def long_header() -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 40
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("data", [negative_size(), long_header()], ids=["negative", "long"])
def test_headers_that_never_end(tmp_path: Path, data: bytes) -> None:
    layer = tmp_path / "1"
    layer.write_bytes(gzip.compress(data + bytes(10240)))
    with pytest.raises(BaseImageError, match="not a layer of a base"):
        flatten([layer], tmp_path / "all.tar")
    with pytest.raises(StorageError, match="damaged"):
        unpack([layer], tmp_path)


@pytest.mark.parametrize("name", ["..", "a/../b", "/..", "./..", "a/..", "x\0y", "a" * 5000])
def test_what_is_no_path(name: str) -> None:
    with pytest.raises(OutsideError):
        entry_path(name)


def test_a_path_is_made_plain() -> None:
    assert entry_path("./usr//lib/./x/") == "usr/lib/x"
    assert entry_path("/") == entry_path("./") == entry_path(".") == ""


def test_a_path_is_resolved_as_in_a_chroot() -> None:
    links = {"lib": "usr/lib", "usr/lib/up": "../../../..", "abs": "/usr", "usr/rel": "lib/"}
    for path, real in (
        ("lib/x", "usr/lib/x"), ("lib/up/x", "x"), ("abs/rel/x", "usr/lib/x"), ("lib", "lib"),
        ("usr/lib/up/lib/x", "usr/lib/x"),
    ):  # fmt: skip
        assert resolve(path, links.get) == real
