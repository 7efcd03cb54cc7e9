"""Which GPU generations a library holds code for, by the headers of CUDA's fat binaries in it."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

_MAGIC = struct.pack("<I", 0xBA55ED50)
_KINDS = {1: "compute", 2: "sm"}  # PTX, machine code


def architectures_in(code: bytes) -> list[str]:
    """List `sm_90` and the like for machine code, then `compute_90` for PTX, each once."""
    found = {
        entry
        for match in re.finditer(re.escape(_MAGIC), code)
        for entry in _entries(code, match.start())
    }
    ordered = sorted(found, key=lambda entry: (-entry[0], entry[1]))
    return [f"{_KINDS[kind]}_{number}" for kind, number in ordered]


def _entries(code: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield kind and architecture of a fat binary's entries; stop where it is truncated."""
    if start + 16 > len(code):
        return
    header, size = struct.unpack_from("<HQ", code, start + 6)
    place, end = start + header, min(start + header + size, len(code))
    while place + 32 <= end:
        kind, _, header, size = struct.unpack_from("<HHIQ", code, place)
        if kind not in _KINDS or not header:
            return
        yield kind, struct.unpack_from("<I", code, place + 28)[0]
        place += header + size
