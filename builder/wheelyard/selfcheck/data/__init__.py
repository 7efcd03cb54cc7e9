"""The handwritten digits that travel with selfcheck (source and licence: README.md beside this)."""

from __future__ import annotations

import gzip
from importlib.resources import files

from ..data.pictures import Pictures, Split

SIDE = 8  # pixels; values 0 to 16
HELD_BACK = 297  # digits that no model is trained on


def load_digits() -> tuple[list[list[int]], list[int]]:
    """Return 1,797 digits: rows of 64 pixels, and the digit that each row shows."""
    packed = (files(__name__) / "digits.csv.gz").read_bytes()
    rows = [
        [int(number) for number in line.split(b",")] for line in gzip.decompress(packed).split()
    ]
    return [row[:-1] for row in rows], [row[-1] for row in rows]


def digits() -> Split:
    """Return the same digits as pictures: 1,500 to train with, 297 to test with."""
    rows, labels = load_digits()
    pixels = bytes(pixel for row in rows for pixel in row)
    whole = Pictures("digits", SIDE, 1, 16, pixels, bytes(labels))
    return Split(whole.part(0, whole.count - HELD_BACK), whole.part(whole.count - HELD_BACK, None))
