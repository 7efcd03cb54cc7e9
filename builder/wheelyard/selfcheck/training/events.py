"""TensorBoard event files, written without TensorBoard.

A file is a row of TFRecords (length, masked CRC-32C, data, masked CRC-32C), each an `Event` message
(tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto).
"""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path

_TABLE: list[int] = []


def event_path(folder: Path) -> Path:
    """Make a name that TensorBoard looks for."""
    name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
    return folder / name


class EventFile:
    """Scalars on their way to TensorBoard."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = event_path(folder)
        self._file = self.path.open("wb")
        self._write(_bytes(3, b"brain.Event:2"))

    def scalar(self, tag: str, step: int, value: float) -> None:
        """Write one point of a curve."""
        point = _bytes(1, tag.encode()) + b"\x15" + struct.pack("<f", value)
        self._write(b"\x10" + varint(step) + _bytes(5, _bytes(1, point)))

    def close(self) -> None:
        """Complete the file."""
        self._file.close()

    def _write(self, message: bytes) -> None:
        data = b"\x09" + struct.pack("<d", time.time()) + message
        length = struct.pack("<Q", len(data))
        self._file.write(length + masked_crc(length) + data + masked_crc(data))


def varint(number: int) -> bytes:
    """Encode Protocol Buffers' variable-length integer; `number` is not negative."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def _bytes(field: int, content: bytes) -> bytes:
    return bytes((field << 3 | 2,)) + varint(len(content)) + content


def crc32c(data: bytes) -> int:
    """Compute CRC-32C (Castagnoli), bit-reversed polynomial 0x82F63B78."""
    if not _TABLE:
        _TABLE.extend(map(_entry, range(256)))
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _entry(number: int) -> int:
    for _ in range(8):
        number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
    return number


def masked_crc(data: bytes) -> bytes:
    """Compute the checksum as records carry it: rotated, and moved by a constant."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
