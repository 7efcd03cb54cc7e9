"""Read the few facts of an ELF file that the dynamic linker goes by.

Layout: System V ABI, "Object Files" and "Program Loading and Dynamic Linking"; 64-bit
little-endian only.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

PT_LOAD, PT_DYNAMIC = 1, 2
DT_NULL, DT_NEEDED, DT_STRTAB, DT_SONAME = 0, 1, 5, 14
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM = struct.Struct("<IIQQQQQQ")
ENTRY = struct.Struct("<qQ")


@dataclass(frozen=True, slots=True)
class SharedObject:
    """A shared object: its path, the name others ask for it by, and the names it asks for."""

    path: Path
    soname: str | None
    needed: tuple[str, ...]

    @property
    def name(self) -> str:
        """The soname, or the file's name for an object without one."""
        return self.soname or self.path.name


def read_shared_object(path: Path) -> SharedObject | None:
    """Parse `path`; None when it is not a 64-bit little-endian ELF file with a dynamic section."""
    with path.open("rb") as file:
        if file.read(6) != b"\x7fELF\x02\x01":
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _parse(path, data)
            except (struct.error, ValueError):
                return None


def _parse(path: Path, data: mmap.mmap) -> SharedObject | None:
    segments = _segments(data)
    dynamic = next((segment for segment in segments if segment[0] == PT_DYNAMIC), None)
    if dynamic is None:
        return None
    entries = _entries(data, offset=dynamic[2], size=dynamic[5])
    strings = _file_offset(segments, dict(entries).get(DT_STRTAB, -1))
    sonames = [_string(data, strings + value) for tag, value in entries if tag == DT_SONAME]
    needed = [_string(data, strings + value) for tag, value in entries if tag == DT_NEEDED]
    return SharedObject(path, sonames[0] if sonames else None, tuple(needed))


def _segments(data: mmap.mmap) -> list[tuple[int, ...]]:
    header = HEADER.unpack_from(data, 0)
    table, size, count = header[5], header[9], header[10]
    return [PROGRAM.unpack_from(data, table + index * size) for index in range(count)]


def _entries(data: mmap.mmap, offset: int, size: int) -> list[tuple[int, int]]:
    entries: list[tuple[int, int]] = []
    for position in range(offset, offset + size, ENTRY.size):
        tag, value = ENTRY.unpack_from(data, position)
        if tag == DT_NULL:
            break
        entries.append((tag, value))
    return entries


def _file_offset(segments: list[tuple[int, ...]], address: int) -> int:
    for kind, _flags, offset, start, _physical, size, *_rest in segments:
        if kind == PT_LOAD and start <= address < start + size:
            return offset + address - start
    raise ValueError("the string table lies in no segment")


def _string(data: mmap.mmap, offset: int) -> str:
    end = data.find(b"\0", offset)
    if end < 0:
        raise ValueError("a string without an end")
    return data[offset:end].decode("utf-8", "replace")
