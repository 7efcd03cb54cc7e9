"""Members that only we encode must be read by everybody else."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wheelyard.layers import gzipmember

_PIECES = st.lists(
    st.one_of(st.binary(max_size=40), st.integers(0, 1200).map(bytes)), max_size=8
).map(b"".join)


@given(_PIECES)
def test_literal_is_read_by_zlib(data: bytes) -> None:
    assert gzip.decompress(gzipmember.literal(data)) == data


@pytest.mark.parametrize("count", [*range(16, 20), *range(255, 270), 513, 516, 517, 1023, 65535])
@pytest.mark.parametrize(("before", "after"), [(b"", b""), (b"x", b""), (b"", b"x"), (b"x", b"y")])
def test_runs_of_zeros_of_any_length(count: int, before: bytes, after: bytes) -> None:
    data = before + bytes(count) + after
    assert gzip.decompress(gzipmember.literal(data)) == data


@given(st.binary(max_size=300_000))
def test_compressed_is_read_by_zlib(data: bytes) -> None:
    assert gzip.decompress(gzipmember.compressed(data)) == data


def test_long_data_is_stored_in_several_blocks() -> None:
    data = bytes(range(256)) * 1000
    assert gzip.decompress(gzipmember.literal(data)) == data


def test_members_in_a_row_are_one_file() -> None:
    parts = [b"head" + bytes(500), b"content" * 1000, bytes(1024)]
    packed = (
        gzipmember.literal(parts[0])
        + gzipmember.compressed(parts[1])
        + gzipmember.literal(parts[2])
    )
    assert gzip.decompress(packed) == b"".join(parts)


def test_bytes_of_a_member_are_fixed() -> None:
    """These bytes are in published digests: if this changes, raise layer.FORMAT."""
    header = b"opt/venv/a".ljust(100, b"\0") + b"0000664\0".ljust(412, b"\0")
    assert zlib.crc32(gzipmember.literal(header)) == 0x740E0883
    assert zlib.crc32(gzipmember.compressed(bytes(range(256)) * 64)) == 0x0FD92EBE
