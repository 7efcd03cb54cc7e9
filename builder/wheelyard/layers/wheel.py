"""Reading a wheel: a zip file that is not trusted.

Only the central directory and the local headers are interpreted here; wheelyard.layers.install
knows what the members mean.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isal import igzip_lib

from wheelyard.layers.errors import WheelError, unreadable
from wheelyard.layers.gzipmember import IsalError, crc32
from wheelyard.layers.whiteout import holds_whiteout

_STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_CHUNK = 1 << 20
# Limits of what is held in memory; torch and TensorFlow, the largest, need a tenth of each.
MEMBERS_MAX = 50_000
DIRECTORY_MAX = 16 << 20  # bytes of the central directory
_READ_MAX = 16 << 20  # bytes of a member that is read whole
_PATH_MAX, _NAME_MAX = 2048, 255  # bytes of a path, and of one name in it
_LOCAL_HEADER = struct.Struct("<4s5HIIIHH")
_CENTRAL = b"PK\x01\x02"
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a wheel; `offset` is where its packed bytes begin."""

    name: str
    offset: int
    packed_size: int
    size: int
    crc: int
    method: int  # STORED or DEFLATED
    executable: bool


class Wheel:
    """An open wheel: its checked members by name, and their bytes."""

    def __init__(self, path: Path) -> None:
        """Open `path`; raise WheelError if it is not a zip, truncated, or has forbidden content."""
        self.path = path
        self._file: BinaryIO = path.open("rb")
        try:
            self.members = {m.name: m for m in _read_members(self._file, path.name)}
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Wheel:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def packed(self, member: Member) -> Iterator[bytes]:
        """Yield the member's compressed bytes, at most `_CHUNK` at a time."""
        left = member.packed_size
        self._file.seek(member.offset)
        while left:
            data = self._file.read(min(_CHUNK, left))
            if not data:
                raise WheelError(f"{self.path.name}: truncated inside {member.name}")
            left -= len(data)
            yield data

    def read(self, member: Member, limit: int = _READ_MAX) -> bytes:
        """Return the member's content, with size and CRC-32 checked; WheelError above `limit`."""
        if member.size > limit:
            raise WheelError(
                f"{self.path.name}: {member.name} has {member.size:,} bytes; the limit for such "
                f"a file is {limit:,}; refused"
            )
        return b"".join(data for _, data in self.stream(member) if data)

    def begins(self, member: Member, prefix: bytes) -> bool:
        """Tell whether the member's content begins with `prefix`, reading little of it."""
        begin = b""
        for _, data in self.stream(member):
            begin += data
            if len(begin) >= len(prefix):
                break
        return begin.startswith(prefix)

    def stream(self, member: Member) -> Iterator[tuple[bytes, bytes]]:
        """Yield pairs of compressed bytes and the content that they complete; either may be empty.

        Content comes in pieces of at most `_CHUNK` bytes. Raises WheelError if the stream ends
        early or late, or if the content has another size or CRC-32 than the directory says.
        """
        pairs = self._inflate(member) if member.method == DEFLATED else self._plain(member)
        size, crc = 0, 0
        for packed, data in pairs:
            size += len(data)
            if size > member.size:
                break
            crc = crc32(data, crc)
            yield packed, data
        if size != member.size or crc != member.crc:
            raise WheelError(f"{self.path.name}: {member.name} is damaged (size or CRC-32 differs)")

    def _plain(self, member: Member) -> Iterator[tuple[bytes, bytes]]:
        for data in self.packed(member):
            yield data, data

    def _inflate(self, member: Member) -> Iterator[tuple[bytes, bytes]]:
        inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
        try:
            for packed in self.packed(member):
                if inflater.eof:
                    raise WheelError(
                        f"{self.path.name}: extra bytes after the end of {member.name}"
                    )
                yield packed, inflater.decompress(packed, _CHUNK)
                while not inflater.needs_input and not inflater.eof:
                    yield b"", inflater.decompress(b"", _CHUNK)
        except IsalError as error:
            raise WheelError(f"{self.path.name}: {member.name} is damaged ({error})") from error
        if not inflater.eof:
            raise WheelError(f"{self.path.name}: {member.name} ends early")
        if inflater.unused_data:
            raise WheelError(f"{self.path.name}: extra bytes after the end of {member.name}")


class _Directory(io.BufferedIOBase):
    """The file as zipfile may read its directory: within a size limit, and not beyond the file."""

    def __init__(self, file: BinaryIO, wheel: str) -> None:
        self._file, self._wheel = file, wheel
        self._size = file.seek(0, io.SEEK_END)

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = self._size if whence == io.SEEK_END else 0
        if not 0 <= start + offset <= self._size:
            raise zipfile.BadZipFile("points outside the file")
        return self._file.seek(start + offset)

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._size if size is None or size < 0 else size
        if min(wanted, self._size - self._file.tell()) > DIRECTORY_MAX:
            raise WheelError(
                f"{self._wheel}: its directory has more than {DIRECTORY_MAX:,} bytes; refused"
            )
        data = self._file.read(wanted)
        if data.count(_CENTRAL) > MEMBERS_MAX:
            raise WheelError(f"{self._wheel}: holds more than {MEMBERS_MAX:,} files; refused")
        return data


def _read_members(file: BinaryIO, wheel: str) -> list[Member]:
    with (
        unreadable(lambda why: WheelError(f"{wheel}: not a zip file, or truncated ({why})")),
        zipfile.ZipFile(_Directory(file, wheel)) as archive,
    ):
        infos = archive.infolist()
        limit = archive.start_dir
    chosen: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        _check(info, wheel)
        if info.is_dir():
            continue
        earlier = chosen.setdefault(info.orig_filename, info)
        if (earlier.CRC, earlier.file_size) != (info.CRC, info.file_size):
            raise WheelError(f"{wheel}: holds {info.filename} twice, with different content")
    members = []
    end = 0
    for info in sorted(chosen.values(), key=lambda i: i.header_offset):
        if not end <= info.header_offset < limit:
            raise WheelError(f"{wheel}: {info.filename} overlaps another member; refused")
        member = _locate(file, info, wheel)
        end = member.offset + member.packed_size
        if end > limit:
            raise WheelError(f"{wheel}: {info.filename} overlaps another member; refused")
        members.append(member)
    return members


def _check(info: zipfile.ZipInfo, wheel: str) -> None:
    name = info.orig_filename  # zipfile truncates `filename`, or takes it from an extra field
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or "\\" in name or ":" in parts[0]:
        raise WheelError(f"{wheel}: absolute or foreign path {name!r}; refused")
    if any(part in {"", ".", ".."} for part in parts):
        raise WheelError(f"{wheel}: path {name!r} leaves its folder; refused")
    if holds_whiteout(name):
        raise WheelError(f"{wheel}: {name!r} would delete files of the image (.wh.); refused")
    if not is_plain(name):
        raise WheelError(
            f"{wheel}: path {name[:200]!r} is too long or has control characters; refused"
        )
    if info.filename != name:
        raise WheelError(f"{wheel}: {name!r} has another name in its extra field; refused")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise WheelError(f"{wheel}: {name} is a link or special file; refused")
    if info.flag_bits & _ENCRYPTED:
        raise WheelError(f"{wheel}: {name} is encrypted; refused")
    if info.compress_type not in {_STORED, DEFLATED}:
        raise WheelError(
            f"{wheel}: {name} is compressed by method {info.compress_type}; wheels use 0 or 8"
        )
    if info.compress_type == _STORED and info.compress_size != info.file_size:
        raise WheelError(
            f"{wheel}: {name} is damaged (stored uncompressed, with two different sizes)"
        )


def is_plain(path: str) -> bool:
    """Tell whether file systems, terminals and engines all take `path` as an ordinary name."""
    return (
        not holds_whiteout(path)
        and not _CONTROL.search(path)
        and len(path.encode()) <= _PATH_MAX
        and all(len(part.encode()) <= _NAME_MAX for part in path.split("/"))
    )


def _locate(file: BinaryIO, info: zipfile.ZipInfo, wheel: str) -> Member:
    file.seek(info.header_offset)
    raw = file.read(_LOCAL_HEADER.size)
    if len(raw) < _LOCAL_HEADER.size or raw[:4] != b"PK\x03\x04":
        raise WheelError(f"{wheel}: no local header for {info.filename}; damaged")
    *_, name_length, extra_length = _LOCAL_HEADER.unpack(raw)
    local_name = file.read(name_length)
    if local_name != info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437"):
        raise WheelError(f"{wheel}: {info.filename} has another name in its local header; refused")
    return Member(
        name=info.orig_filename,
        offset=info.header_offset + _LOCAL_HEADER.size + name_length + extra_length,
        packed_size=info.compress_size,
        size=info.file_size,
        crc=info.CRC,
        method=info.compress_type,
        executable=bool(info.external_attr >> 16 & 0o111),
    )
