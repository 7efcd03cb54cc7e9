"""The handwritten digits that travel with selfcheck (source and licence: README.md beside this)."""

from __future__ import annotations

import gzip
from importlib.resources import files

SIDE = 8  # pixels; values 0 to 16


def load_digits() -> tuple[list[list[int]], list[int]]:
    """1,797 digits: rows of 64 pixels, and the digit each row shows."""
    packed = (files(__name__) / "digits.csv.gz").read_bytes()
    rows = [
        [int(number) for number in line.split(b",")] for line in gzip.decompress(packed).split()
    ]
    return [row[:-1] for row in rows], [row[-1] for row in rows]
