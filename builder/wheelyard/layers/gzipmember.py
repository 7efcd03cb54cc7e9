"""Gzip members: the pieces a layer's blob is made of (RFC 1951, RFC 1952).

A gzip file may hold any number of members in a row. Three kinds are made here:

* `verbatim_head` / `verbatim_tail` wrap a DEFLATE stream that was compressed elsewhere;
* `literal` holds tar headers and padding, encoded by rules so small that no compressor (and so
  no compressor's version) decides the bytes;
* `compressed` packs content that comes uncompressed, by libdeflate, whose output does not depend
  on the processor; its version is pinned exactly in pyproject.toml.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache

import deflate
from isal import igzip_lib, isal_zlib

HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # deflate, no flags, no time, OS unknown
_LEVEL = 1  # 80 % of the time of level 2 for 5 % more bytes, half of level 6 (a Debian base)
# What a damaged stream raises; the stubs declare an instance where the module has the class.
IsalError: type[Exception] = igzip_lib.error  # type: ignore[assignment]
_STORED_MAX = 0xFFFF
_RUNS = re.compile(rb"(\x00{16,})")
# RFC 1951, 3.2.5: (first length, extra bits) of the length codes 257..285
_LENGTHS = (
    [(length, 0) for length in range(3, 11)]
    + [(11 + 2 * i, 1) for i in range(4)]
    + [(19 + 4 * i, 2) for i in range(4)]
    + [(35 + 8 * i, 3) for i in range(4)]
    + [(67 + 16 * i, 4) for i in range(4)]
    + [(131 + 32 * i, 5) for i in range(4)]
    + [(258, 0)]
)


def crc32(data: bytes | bytearray | memoryview, start: int = 0) -> int:
    """Return the CRC-32 that gzip and zip use."""
    return int(isal_zlib.crc32(data, start))


def tail(crc: int, size: int) -> bytes:
    """End a member: CRC-32 and size modulo 2**32 of its content."""
    return struct.pack("<II", crc, size & 0xFFFFFFFF)


def compressed(data: bytes, level: int = _LEVEL) -> bytes:
    """Return one whole member that unpacks to `data`, compressed by libdeflate."""
    return HEAD + bytes(deflate.deflate_compress(data, level)) + tail(crc32(data), len(data))


def inflated(data: bytes, most: int) -> bytes:
    """Return the content of the first member; raise ValueError above `most` bytes."""
    return _first(data, most)[0]


def inflated_all(data: bytes, most: int) -> bytes:
    """Return the content of all members in a row; raise ValueError above `most` bytes."""
    whole = bytearray()
    while data:
        content, data = _first(data, most - len(whole))
        whole += content
    return bytes(whole)


def _first(data: bytes, most: int) -> tuple[bytes, bytes]:
    """Return the content of the first member, and what follows it."""
    member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    content: bytes = member.decompress(data, most + 1)
    if len(content) > most or not member.eof:
        raise ValueError(f"a gzip member is cut off, or unpacks to more than {most:,} bytes")
    return content, member.unused_data


def _stored(data: bytes) -> bytes:
    """Return one whole member that unpacks to `data`, not compressed at all."""
    pieces = [data[i : i + _STORED_MAX] for i in range(0, len(data), _STORED_MAX)] or [b""]
    blocks = b"".join(
        bytes([piece is pieces[-1]]) + _stored_length(piece) + piece for piece in pieces
    )
    return HEAD + blocks + tail(crc32(data), len(data))


def literal(data: bytes) -> bytes:
    """Return one whole member for tar headers: text unchanged, runs of zeros as one match.

    A tar header is 512 bytes of which some 400 are zeros, in a few long runs; stored blocks for the
    text and fixed-Huffman blocks for the runs come within a few bytes of a real compressor.
    """
    if len(data) > _STORED_MAX or not data:
        return _stored(data)
    pieces = [piece for piece in _RUNS.split(data) if piece]
    out = bytearray(HEAD)
    open_stored = False  # the next stored block's header bits were already written by a run
    for i, piece in enumerate(pieces):
        last = i == len(pieces) - 1
        if len(piece) >= 16 and not piece.strip(b"\0"):
            next_is_last = i + 1 == len(pieces) - 1
            out += _zero_run(len(piece), last, next_is_last)
            open_stored = not last
        else:
            if not open_stored:
                out.append(1 if last else 0)
            out += _stored_length(piece) + piece
            open_stored = False
    return bytes(out) + tail(crc32(data), len(data))


def _stored_length(data: bytes) -> bytes:
    return struct.pack("<HH", len(data), len(data) ^ 0xFFFF)


@lru_cache(maxsize=4096)
def _zero_run(count: int, last: bool, next_is_last: bool) -> bytes:
    """Encode a fixed-Huffman block of `count` zeros, and the bits that open a stored block."""
    bits: list[int] = [1 if last else 0, 1, 0]  # BFINAL, BTYPE=01 (least significant bit first)
    bits += _fixed_code(0)
    left = count - 1
    while left:
        if left < 3:
            bits += _fixed_code(0)
            left -= 1
            continue
        length = min(left, 258)
        if left - length in (1, 2):  # a match is never shorter than three
            length -= 3
        bits += _match(length)
        left -= length
    bits += _fixed_code(256)
    if not last:
        bits += [1 if next_is_last else 0, 0, 0]  # BFINAL, BTYPE=00 of the stored block
    bits += [0] * (-len(bits) % 8)
    octets = (bits[at : at + 8] for at in range(0, len(bits), 8))
    return bytes(sum(bit << i for i, bit in enumerate(octet)) for octet in octets)


def _fixed_code(symbol: int) -> list[int]:
    """Encode a symbol by RFC 1951, 3.2.6; Huffman codes go most significant bit first."""
    if symbol < 144:
        code, width = 0x30 + symbol, 8
    elif symbol < 256:
        code, width = 0x190 + symbol - 144, 9
    elif symbol < 280:
        code, width = symbol - 256, 7
    else:
        code, width = 0xC0 + symbol - 280, 8
    return [code >> i & 1 for i in range(width - 1, -1, -1)]


def _match(length: int) -> list[int]:
    """Repeat the previous byte `length` times: a length code, its extra bits, distance code 0."""
    index = max(i for i, (first, _) in enumerate(_LENGTHS) if first <= length)
    first, extra = _LENGTHS[index]
    return _fixed_code(257 + index) + [(length - first) >> i & 1 for i in range(extra)] + [0] * 5
