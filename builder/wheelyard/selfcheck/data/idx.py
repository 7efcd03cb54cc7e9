"""Write our digits as the files of MNIST are: idx, 28 x 28 pixels, 0 to 255 (yann.lecun.com).

What is written is what `folder` reads; libraries that know MNIST read it too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from ..data.folder import IMAGES, LABELS
from ..data.pictures import Pictures, Split

SIDE, BORDER, LARGER = 28, 2, 3  # 8 pixels, three times as large, and a border, as MNIST has it


def write_mnist(folder: Path, split: Split) -> None:
    """Write the four files, where torchvision looks for them below its root."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, pictures in (("train", split.train), ("t10k", split.test)):
        pixels = b"".join(larger(pictures))
        head = struct.pack(">4I", IMAGES, pictures.count, SIDE, SIDE)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(head + pixels)
        head = struct.pack(">2I", LABELS, pictures.count)
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(head + pictures.labels)


def larger(pictures: Pictures) -> Iterator[bytes]:
    """Yield the rows of every picture, each pixel nine times, with a border of nothing."""
    side, dark = pictures.side, bytes(SIDE)
    for start in range(0, len(pictures.pixels), side * side):
        yield dark * BORDER
        for row in range(start, start + side * side, side):
            values = pictures.pixels[row : row + side]
            wide = bytes(value * 255 // pictures.levels for value in values for _ in range(LARGER))
            yield (bytes(BORDER) + wide + bytes(BORDER)) * LARGER
        yield dark * BORDER
