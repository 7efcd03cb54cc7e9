"""Count the kernels in a trace of TensorFlow's profiler (tsl/profiler/protobuf/xplane.proto).

A plane of a GPU is there also when no kernel was seen; its events are what counts.
"""

from __future__ import annotations

from collections.abc import Iterator

PLANES, NAME, LINES, EVENTS = 1, 2, 3, 4  # XSpace.planes; XPlane.name, .lines; XLine.events
GPU = b"/device:GPU"


def kernels_in(trace: bytes) -> int:
    """Count the events on the lines of GPUs' planes."""
    count = 0
    for plane in parts(trace, PLANES):
        if any(name.startswith(GPU) for name in parts(plane, NAME)):
            count += sum(1 for line in parts(plane, LINES) for _event in parts(line, EVENTS))
    return count


def parts(message: bytes, field: int) -> Iterator[bytes]:
    """Yield one length-delimited field's values; ValueError for what is no Protocol Buffer."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            _value, at = _varint(message, at)
            continue
        size, at = _varint(message, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), at)
        if size < 0 or at + size > len(message):
            raise ValueError("the profiler's trace is damaged")
        if number == field and kind == 2:
            yield message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("the profiler's trace is damaged")
