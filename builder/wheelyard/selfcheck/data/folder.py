"""Read a folder of MNIST (idx files) or CIFAR-10 (binary version), plain or gzipped.

Formats: yann.lecun.com/exdb/mnist, cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

from ..data.pictures import CLASSES, DataError, Pictures, Split

PLACES = ("", "MNIST/raw", "raw", "cifar-10-batches-bin")
IMAGES, LABELS = 0x803, 0x801  # idx: unsigned bytes in three dimensions, in one
RECORD = 1 + 3 * 32 * 32  # CIFAR-10: a label, then a red, a green and a blue plane
AGAIN = "copy or download it again"


def read_folder(folder: Path, limit: int) -> Split:
    """Read the pictures in `folder`, at most `limit` to train with and a fifth of that to test.

    Raises DataError for a folder or file that is missing, truncated or something else.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; --data names one with MNIST or CIFAR-10 files")
    for place in PLACES:
        here = folder / place
        if _find(here, "train-images"):
            return Split(_mnist(here, "train", limit), _mnist(here, "t10k", _fifth(limit)))
        if batches := sorted(here.glob("data_batch_*.bin*")):
            tests = [_required(here, "test_batch.bin")]
            return Split(_cifar(batches, limit), _cifar(tests, _fifth(limit)))
    if any(folder.glob("**/data_batch_1")):
        raise DataError(f"{folder} holds CIFAR-10 as Python pickles; take its binary version")
    raise DataError(
        f"{folder} holds neither MNIST (train-images-idx3-ubyte) nor CIFAR-10 (data_batch_1.bin)"
    )


def _fifth(limit: int) -> int:
    return max(1, limit // 5)


def _find(folder: Path, start: str) -> Path | None:
    return next(iter(sorted(folder.glob(f"{start}*"))), None)


def _required(folder: Path, start: str) -> Path:
    file = _find(folder, start)
    if file is None:
        raise DataError(f"{folder} has no {start}*: the data set is not complete; {AGAIN}")
    return file


def _mnist(folder: Path, part: str, limit: int) -> Pictures:
    images = _required(folder, f"{part}-images")
    labels = _required(folder, f"{part}-labels")
    (count, rows, columns), pixels = _idx(images, IMAGES)
    (named,), kinds = _idx(labels, LABELS)
    if count != named:
        raise DataError(f"{images} has {count} pictures, {labels} {named} labels; {AGAIN}")
    if rows != columns:
        raise DataError(f"{images}: pictures of {rows} x {columns} pixels; they must be square")
    _check_labels(labels, kinds)
    return Pictures("MNIST", rows, 1, 255, pixels, kinds).part(0, limit)


def _idx(path: Path, magic: int) -> tuple[tuple[int, ...], bytes]:
    """Read an idx file's dimensions and its bytes."""
    content = _content(path)
    dimensions = magic & 0xFF
    start = 4 + 4 * dimensions
    if len(content) < start or struct.unpack_from(">I", content)[0] != magic:
        raise DataError(f"{path} is not an idx file of {dimensions} dimension(s); {AGAIN}")
    sizes = struct.unpack_from(f">{dimensions}I", content, 4)
    expected = start + math.prod(sizes)
    if len(content) != expected:
        raise DataError(f"{path}: {len(content)} bytes instead of {expected}; {AGAIN}")
    return sizes, content[start:]


def _cifar(paths: Sequence[Path], limit: int) -> Pictures:
    pixels, labels = bytearray(), bytearray()
    for path in paths:
        content = _content(path)
        if not content or len(content) % RECORD:
            raise DataError(f"{path}: {len(content)} bytes are no whole number of records; {AGAIN}")
        kinds = content[::RECORD]
        _check_labels(path, kinds)
        labels += kinds
        pixels += b"".join(content[at + 1 : at + RECORD] for at in range(0, len(content), RECORD))
        if len(labels) >= limit:
            break
    return Pictures("CIFAR-10", 32, 3, 255, bytes(pixels), bytes(labels)).part(0, limit)


def _check_labels(path: Path, labels: bytes) -> None:
    if not labels:
        raise DataError(f"{path} holds nothing; {AGAIN}")
    if max(labels) >= CLASSES:
        raise DataError(f"{path}: label {max(labels)}, but there are ten classes; {AGAIN}")


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except OSError as error:  # BadGzipFile is one
        raise DataError(f"{path}: {error.strerror or error}; {AGAIN}") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}); {AGAIN}") from error
