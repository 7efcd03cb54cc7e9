"""A wheel is untrusted input: what must be refused is refused, by name."""

import struct
import zipfile
from pathlib import Path
from typing import IO

import pytest
from wheels import make_wheel

from wheelyard.layers.errors import WheelError
from wheelyard.layers.wheel import Wheel


def raw_zip(path: Path, name: str, *, attributes: int = 0o100644 << 16, twice: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = attributes
        archive.writestr(entry, b"content")
        if twice:
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr(zipfile.ZipInfo(name), twice)
    return path


def test_reads_members_of_every_kind(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "a.py": b"x = 1\n",
        "empty.py": b"",
        "b/c.bin": bytes(range(256)) * 9000,
        "é/ü.txt": "ß",
    }
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with Wheel(make_wheel(tmp_path, files=files, method=method)) as wheel:
            for name, content in files.items():
                expected = content.encode() if isinstance(content, str) else content
                assert wheel.read(wheel.members[name]) == expected


def test_reads_zip64_and_data_descriptors(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    with path.open("wb") as file, zipfile.ZipFile(Unseekable(file), "w") as archive:
        with archive.open(zipfile.ZipInfo("big.txt"), "w", force_zip64=True) as member:
            member.write(b"x" * 100_000)
        archive.writestr("small.txt", b"y", zipfile.ZIP_DEFLATED)
    with Wheel(path) as wheel:
        assert wheel.read(wheel.members["big.txt"]) == b"x" * 100_000
        assert wheel.read(wheel.members["small.txt"]) == b"y"


class Unseekable:
    """Makes zipfile write data descriptors."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """The test closes the file."""


@pytest.mark.parametrize(
    "name", ["../evil.py", "/etc/passwd", "a/../../b", "a\\..\\b", "C:/x", "./a", "a//b"]
)
def test_refuses_paths_that_leave(tmp_path: Path, name: str) -> None:
    with pytest.raises(WheelError, match="refused"):
        Wheel(raw_zip(tmp_path / "a.whl", name))


@pytest.mark.parametrize("kind", [0o120777, 0o060644, 0o020644, 0o010644, 0o140644])
def test_refuses_links_and_devices(tmp_path: Path, kind: int) -> None:
    with pytest.raises(WheelError, match="link or special file"):
        Wheel(raw_zip(tmp_path / "a.whl", "a", attributes=kind << 16))


def test_refuses_encryption(tmp_path: Path) -> None:
    path = raw_zip(tmp_path / "a.whl", "a")
    with pytest.raises(WheelError, match="encrypted"):
        Wheel(patched(path, flags=0x1))


def test_refuses_unknown_compression(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"content" * 100, zipfile.ZIP_LZMA)
    with pytest.raises(WheelError, match="method 14"):
        Wheel(path)


def test_refuses_one_name_with_two_contents(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match="twice"):
        Wheel(raw_zip(tmp_path / "a.whl", "a", twice=b"other"))


def test_takes_one_name_with_the_same_content(tmp_path: Path) -> None:
    with Wheel(raw_zip(tmp_path / "a.whl", "a", twice=b"content")) as wheel:
        assert list(wheel.members) == ["a"]


def test_refuses_what_is_no_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    path.write_bytes(b"<html>captive portal</html>" * 50)
    with pytest.raises(WheelError, match="not a zip file"):
        Wheel(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_refuses_a_truncated_wheel(tmp_path: Path, share: float) -> None:
    path = make_wheel(tmp_path, files={"a.bin": bytes(range(256)) * 500})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(WheelError, match="truncated"):
        Wheel(path)


def test_refuses_a_flipped_bit(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, files={"a.bin": b"content" * 1000}, method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with Wheel(path) as wheel, pytest.raises(WheelError, match="damaged"):
        wheel.read(wheel.members["a.bin"])


def test_refuses_another_name_in_the_local_header(tmp_path: Path) -> None:
    path = raw_zip(tmp_path / "a.whl", "harmless")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"harmless", b"harmful!", 1))
    with pytest.raises(WheelError, match="another name"):
        Wheel(path)


def test_refuses_a_bomb_of_overlapping_members(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(10_000))
        archive.writestr("b", bytes(10_000))
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\x01\x02")
    (packed,) = struct.unpack_from("<I", data, first + 20)
    struct.pack_into("<I", data, first + 20, packed + 10)  # a reaches into b
    path.write_bytes(data)
    with pytest.raises(WheelError, match="overlap"):
        Wheel(path)


def test_refuses_content_longer_than_it_says(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, files={"a.bin": b"z" * 5000})
    with pytest.raises(WheelError, match="damaged"), Wheel(patched(path, size=10)) as wheel:
        wheel.read(wheel.members["a.bin"])


def patched(path: Path, *, flags: int | None = None, size: int | None = None) -> Path:
    """Change the first member's central directory entry."""
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    if flags is not None:
        data[at + 8 : at + 10] = struct.pack("<H", flags)
    if size is not None:
        data[at + 24 : at + 28] = struct.pack("<I", size)
    path.write_bytes(data)
    return path
