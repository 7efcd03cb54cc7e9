"""BuildKit's progress, as the Engine API streams it: protocol buffers in base64.

The messages are those of moby/buildkit, api/services/control/control.proto; of their fields only
those named here are read. It is a handful of strings, which needs no compiler of schemas and no
run-time library beside it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wheelyard.errors import EngineError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
WIDTHS = {FIXED64: 8, FIXED32: 4}

Fields = dict[int, list[int | bytes]]


@dataclass(frozen=True, slots=True)
class Vertex:
    """A step of a build, as far as it has come."""

    digest: str
    name: str  # "[2/5] RUN ..."; of BuildKit's own: "[internal] load build definition ..."
    is_cached: bool
    is_started: bool
    is_completed: bool
    error: str  # "": none


@dataclass(frozen=True, slots=True)
class Output:
    """What a step's programs wrote."""

    vertex: str  # digest
    text: str


@dataclass(frozen=True, slots=True)
class Trace:
    """One message about a build's progress."""

    vertexes: Sequence[Vertex]
    outputs: Sequence[Output]


def decode_trace(encoded: str) -> Trace:
    """The message in the `aux` of a `moby.buildkit.trace`; raises EngineError when it is none."""
    try:
        fields = _fields(base64.b64decode(encoded, validate=True))
        vertexes = tuple(_vertex(_fields(_bytes(item))) for item in fields.get(1, ()))
        outputs = tuple(_output(_fields(_bytes(item))) for item in fields.get(3, ()))
    except (binascii.Error, IndexError, ValueError) as error:
        raise EngineError(f"the engine's progress cannot be read: {error}") from error
    return Trace(vertexes, outputs)


def _vertex(fields: Fields) -> Vertex:
    return Vertex(
        digest=_text(fields, 1),
        name=_text(fields, 3),
        is_cached=bool(fields.get(4, [0])[-1]),
        is_started=5 in fields,
        is_completed=6 in fields,
        error=_text(fields, 7),
    )


def _output(fields: Fields) -> Output:
    return Output(_text(fields, 1), _text(fields, 4))


def _text(fields: Fields, number: int) -> str:
    return _bytes(fields.get(number, [b""])[-1]).decode(errors="replace")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")  # noqa: TRY004 - input, not a type of ours
    return value


def _fields(data: bytes) -> Fields:
    """The values of a message by field number, in their order; numbers of fixed width are bytes."""
    found: Fields = {}
    for number, value in _pairs(data):
        found.setdefault(number, []).append(value)
    return found


def _pairs(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == BYTES:
            width, at = _varint(data, at)
        elif kind in WIDTHS:
            width = WIDTHS[kind]
        else:
            raise ValueError(f"wire type {kind}")
        if at + width > len(data):
            raise ValueError("it ends in the middle of a field")
        yield key >> 3, data[at : at + width]
        at += width


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
