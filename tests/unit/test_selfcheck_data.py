"""Data folders: what is read, and what is said about files that are not what they should be."""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wheelyard.selfcheck.data import HELD_BACK, digits
from wheelyard.selfcheck.data.folder import read_folder
from wheelyard.selfcheck.data.idx import write_mnist as write_digits
from wheelyard.selfcheck.data.pictures import DataError
from wheelyard.selfcheck.training.mnist import Course, judge


def idx(magic: int, sizes: tuple[int, ...], content: bytes) -> bytes:
    return struct.pack(f">{1 + len(sizes)}I", magic, *sizes) + content


def write_mnist(folder: Path, train: int = 20, test: int = 10, side: int = 4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("t10k", test)):
        pixels = bytes(at % 256 for at in range(count * side * side))
        kinds = bytes(at % 10 for at in range(count))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(0x803, (count, side, side), pixels))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(0x801, (count,), kinds))
    return folder


def write_cifar(folder: Path, records: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"):
        rows = (bytes([at]) + bytes([at * 10] * 3072) for at in range(records))
        (folder / name).write_bytes(b"".join(rows))
    return folder


def test_our_digits_are_split_and_nothing_is_lost() -> None:
    split = digits()
    assert (split.train.count, split.test.count) == (1797 - HELD_BACK, HELD_BACK)
    assert len(split.train.pixels) == split.train.count * 64
    assert split.train.labels[:10] == bytes(range(10))


@pytest.mark.parametrize("place", ["", "MNIST/raw", "raw"])
def test_mnist_is_read_where_people_keep_it(tmp_path: Path, place: str) -> None:
    write_mnist(tmp_path / place)
    split = read_folder(tmp_path, limit=15)
    assert (split.train.name, split.train.side, split.train.levels) == ("MNIST", 4, 255)
    assert (split.train.count, split.test.count) == (15, 3)
    assert split.train.pixels[:5] == bytes(range(5))


def test_gzipped_files_are_read_as_they_are(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    for path in list(tmp_path.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert read_folder(tmp_path, 100).train.count == 20


def test_cifar_is_read_in_planes(tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar-10-batches-bin")
    split = read_folder(tmp_path, limit=5)
    assert (split.train.side, split.train.channels, split.train.count) == (32, 3, 5)
    assert split.train.labels == bytes([0, 1, 2, 0, 1])
    assert split.train.pixels[3072:3074] == bytes([10, 10])


def truncate(folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-7])


def damage_gzip(folder: Path) -> None:
    path = folder / "train-labels-idx1-ubyte"
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes())[:-9])
    path.unlink()


def no_labels(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte").unlink()


def wrong_magic(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte").write_bytes(b"<html>not found</html>")


def wrong_label(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(0x801, (20,), bytes([11] * 20)))


def other_count(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(0x801, (19,), bytes(19)))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (truncate, "train-images-idx3-ubyte: 329 bytes instead of 336; copy or download"),
        (damage_gzip, "train-labels-idx1-ubyte.gz is damaged"),
        (no_labels, "has no t10k-labels*: the data set is not complete"),
        (wrong_magic, "train-images-idx3-ubyte is not an idx file of 3 dimension(s)"),
        (wrong_label, "label 11, but there are ten classes"),
        (other_count, "has 20 pictures, "),
    ],
)
def test_damaged_mnist_is_named(tmp_path: Path, harm: Callable[[Path], None], message: str) -> None:
    harm(write_mnist(tmp_path))
    with pytest.raises(DataError) as caught:
        read_folder(tmp_path, 100)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_other_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder; --data names one"):
        read_folder(tmp_path / "none", 100)
    with pytest.raises(DataError, match="holds neither MNIST"):
        read_folder(tmp_path, 100)
    write_cifar(tmp_path)
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(3074))
    with pytest.raises(DataError, match="3074 bytes are no whole number of records"):
        read_folder(tmp_path, 100)


def test_cifar_pickles_are_told_from_its_binary_version(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"\x80\x02}")
    with pytest.raises(DataError, match="as Python pickles; take its binary version"):
        read_folder(tmp_path, 100)


def test_our_digits_become_files_of_mnist(tmp_path: Path) -> None:
    split = digits()
    write_digits(tmp_path, split)
    again = read_folder(tmp_path, 1500).train
    assert (again.name, again.side, again.count) == ("MNIST", 28, 1500)
    assert again.labels == split.train.labels
    for row, column in ((0, 0), (2, 2), (14, 13), (25, 25), (27, 14)):
        for at in (0, 777, 1499):
            seen = again.pixels[at * 784 + row * 28 + column]
            inside = 2 <= row < 26 and 2 <= column < 26
            place = at * 64 + (row - 2) // 3 * 8 + (column - 2) // 3
            assert seen == (split.train.pixels[place] * 255 // 16 if inside else 0)


COURSE = Course((1500, 297), 1e-7, True, [1.2, 0.2], 0.9, True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"counts": (1500, 1500)}, "does not read the labels"),
        ({"labels": False}, "does not read the labels"),
        ({"pixels": 0.5}, "out of its transforms as another one"),
        ({"pixels": math.nan}, "out of its transforms as another one"),
        ({"losses": [1.2, math.nan]}, "not a finite number"),
        ({"losses": [1.2, 0.9]}, "the loss fell to 0.9 only"),
        ({"losses": [0.1, 0.2]}, "the loss fell to 0.2 only"),
        ({"accuracy": 0.5}, "the accuracy is 0.5 only"),
        ({"same": False}, "answers otherwise when it is loaded"),
    ],
)
def test_every_step_of_the_first_script_counts(change: dict[str, Any], reason: str) -> None:
    assert judge(COURSE, (1500, 297)).status == "pass"
    outcome = judge(replace(COURSE, **change), (1500, 297))
    assert (outcome.status, reason in (outcome.reason or "")) == ("fail", True), outcome.reason
