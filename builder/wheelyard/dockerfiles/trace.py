"""BuildKit's progress, as the Engine API streams it: protocol buffers in base64.

The messages are those of moby/buildkit, api/services/control/control.proto; of their fields only
those named here are read. It is a handful of strings, which needs no compiler of schemas and no
run-time library beside it.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from wheelyard.errors import EngineError

_VARINT, _BYTES = 0, 2  # wire types
_WIDTHS = {1: 8, 5: 4}  # those of fixed width: wire type -> bytes

_Fields = Mapping[int, Sequence[int | bytes]]


@dataclass(frozen=True, slots=True)
class Vertex:
    """A step of a build that has begun."""

    digest: str
    name: str  # "[2/5] RUN ..."; of BuildKit's own: "[internal] load build definition ..."
    is_cached: bool


def decode_trace(encoded: str) -> tuple[list[Vertex], list[str]]:
    """Return the steps that have begun, and the output of steps; EngineError if unreadable.

    `encoded` is the `aux` of a `moby.buildkit.trace`.
    """
    try:
        fields = _fields(base64.b64decode(encoded, validate=True))
        vertexes = [_fields(_bytes(item)) for item in fields.get(1, ())]
        logs = [_fields(_bytes(item)) for item in fields.get(3, ())]
        begun = [
            Vertex(_text(x, 1), _text(x, 3), bool(x.get(4, [0])[-1])) for x in vertexes if 5 in x
        ]
        return begun, [_text(log, 4) for log in logs]
    except (IndexError, ValueError) as error:
        raise EngineError(f"the engine's progress cannot be read: {error}") from error


def _text(fields: _Fields, number: int) -> str:
    return _bytes(fields.get(number, [b""])[-1]).decode(errors="replace")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")  # noqa: TRY004 - input, not a type of ours
    return value


def _fields(data: bytes) -> _Fields:
    """Return a message's values by field number, in their order."""
    values = defaultdict(list)
    for number, value in _pairs(data):
        values[number].append(value)
    return dict(values)


def _pairs(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        width, at = _varint(data, at) if kind == _BYTES else (_WIDTHS.get(kind, -1), at)
        if not 0 <= width <= len(data) - at:
            raise ValueError(f"wire type {kind}, {len(data) - at} bytes left")
        yield number, data[at : at + width]
        at += width


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
