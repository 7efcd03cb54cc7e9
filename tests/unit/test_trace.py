"""BuildKit's progress messages, as the Engine API streams them."""

from __future__ import annotations

import base64
import io

import pytest

from wheelyard.console.progress import QuietReporter
from wheelyard.dockerfiles.buildlog import TRACE, BuildLog
from wheelyard.dockerfiles.trace import Vertex, decode_trace
from wheelyard.errors import EngineError


def varint(value: int) -> bytes:
    head = b""
    while value > 0x7F:
        head += bytes([value & 0x7F | 0x80])
        value >>= 7
    return head + bytes([value])


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def encode(*fields: bytes) -> str:
    return base64.b64encode(b"".join(fields)).decode()


TIME = field(1, 1_763_900_000)  # google.protobuf.Timestamp
NAME = "[2/5] RUN " + "x" * 300  # longer than a length of one byte can say
BEGUN = field(1, field(1, "sha256:a") + field(2, "sha256:0") + field(3, NAME) + field(5, TIME))
KNOWN = field(1, field(1, "sha256:b") + field(3, "[3/5] RUN b") + field(4, 1) + field(5, TIME)
              + field(6, TIME))  # fmt: skip
WAITING = field(1, field(1, "sha256:c") + field(3, "[4/5] RUN c"))
FAILED = field(1, field(1, "sha256:d") + field(3, "[5/5] RUN d") + field(5, TIME) + field(7, "no"))
STATUS = field(2, field(1, "extracting") + field(4, 7))  # not read
SAID = field(3, field(1, "sha256:a") + field(2, TIME) + field(3, 2) + field(4, b"gr\xc3\xbcn\n"))


def test_steps_and_what_they_say() -> None:
    begun, said = decode_trace(encode(BEGUN, KNOWN, WAITING, FAILED, STATUS, SAID))
    assert begun == [
        Vertex("sha256:a", NAME, False),
        Vertex("sha256:b", "[3/5] RUN b", True),
        Vertex("sha256:d", "[5/5] RUN d", False),
    ]
    assert said == ["grün\n"]


def test_numbers_of_fixed_width_are_passed_over() -> None:
    fixed = varint(9 << 3 | 1) + bytes(8) + varint(10 << 3 | 5) + bytes(4)
    assert decode_trace(encode(fixed, SAID)) == ([], ["grün\n"])


@pytest.mark.parametrize(
    "damaged",
    ["%%%", encode(BEGUN[:-1]), encode(b"\x0b"), encode(b"\x80"), encode(field(1, 5))],
    ids=["no base64", "cut off", "a wire type of the past", "half a number", "a number"],
)
def test_what_is_no_progress_is_an_error(damaged: str) -> None:
    with pytest.raises(EngineError, match="progress cannot be read"):
        decode_trace(damaged)


def test_the_log_of_a_buildkit_build() -> None:
    log = io.StringIO()
    internal = field(
        1, field(1, "sha256:9") + field(3, "[internal] load metadata") + field(5, TIME)
    )
    with BuildLog("x", log, QuietReporter(None)) as progress:
        for encoded in (
            encode(internal, WAITING),
            encode(BEGUN),
            encode(BEGUN, SAID),
            encode(KNOWN),
        ):
            progress.take({"id": TRACE, "aux": encoded})
        assert progress.step == "RUN b"
        progress.take({"id": "moby.image.id", "aux": {"ID": "sha256:1"}})
    assert progress.image == "sha256:1"
    assert list(progress.tail) == ["grün"]
    assert log.getvalue().splitlines() == [
        "[internal] load metadata", NAME, "grün", "[3/5] RUN b CACHED",
    ]  # fmt: skip
