"""Augmentation by the framework's own layers: a picture moved and mirrored by chance."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from ..data import digits
from ..frameworks import MODULES
from ..result import Outcome, failed, passed, skipped
from ..training.learner import NotHereError

TIMES = 64  # that a picture is augmented: each of 2 x 3 x 3 ways is likely to come
Picture = Sequence[Sequence[int]]


def check_augmentation(framework: str, seed: int) -> Outcome:
    """Check that pictures come out moved or mirrored; a seed repeats it, another does not."""
    picture = _first_digit()
    try:
        augment: Any = importlib.import_module(f"{__package__}.augmenting_{MODULES[framework]}")
        first, again, other = (
            augment.augmented(picture, TIMES, each) for each in (seed, seed, seed + 1)
        )
    except NotHereError as missing:
        return skipped(str(missing))
    seen = {"ways": len(set(map(_fixed, first))), "of": len(ways(picture))}
    if problem := fault(picture, first):
        return failed(problem, seen)
    if first != again:
        return failed(f"seed {seed} augmented otherwise the second time", seen)
    return failed("another seed augmented the same way", seen) if first == other else passed(seen)


def fault(picture: Picture, outputs: Sequence[Picture]) -> str | None:
    """Say what is wrong with augmented pictures; None where nothing is."""
    allowed = ways(picture)
    taken = [allowed.get(_fixed(output)) for output in outputs]
    if None in taken:
        return "an augmented picture is not the picture, moved by a pixel at most and mirrored"
    mirrored, moved = ({way[at] for way in taken if way} for at in range(2))
    if len(mirrored) < 2 or len(moved) < 2:
        return "pictures are never mirrored or never moved, or always are"
    return None


def ways(picture: Picture) -> dict[tuple[tuple[int, ...], ...], tuple[bool, tuple[int, int]]]:
    """Return every picture that may come out, and how it is made."""
    size = len(picture)
    pictures = {}
    for mirrored in (False, True):
        rows = [list(row[::-1] if mirrored else row) for row in picture]
        wide = [[0] * (size + 2), *([0, *row, 0] for row in rows), [0] * (size + 2)]
        for down in range(3):
            for right in range(3):
                window = [row[right : right + size] for row in wide[down : down + size]]
                pictures[_fixed(window)] = (mirrored, (down, right))
    return pictures


def _fixed(picture: Picture) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in picture)


def _first_digit() -> list[list[int]]:
    test = digits().test
    pixels = list(test.pixels[: test.side**2])
    return [pixels[at : at + test.side] for at in range(0, len(pixels), test.side)]
