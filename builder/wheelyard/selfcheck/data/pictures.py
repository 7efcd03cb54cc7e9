"""Small labelled pictures as plain bytes, so that every framework can make its own tensors."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

CLASSES = 10


class DataError(Exception):
    """A data folder or file cannot be used; the message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Square pictures of ten kinds."""

    name: str  # "digits", "MNIST", "CIFAR-10"
    side: int  # pixels
    channels: int
    levels: int  # the highest value a pixel can have
    pixels: bytes  # count x channels x side x side
    labels: bytes  # one of 0 to 9 each

    @property
    def count(self) -> int:
        """Number of pictures."""
        return len(self.labels)

    def part(self, start: int, stop: int | None) -> Pictures:
        """Return the pictures from `start` up to `stop`."""
        size = self.channels * self.side * self.side
        end = self.count if stop is None else min(stop, self.count)
        return replace(
            self, pixels=self.pixels[start * size : end * size], labels=self.labels[start:end]
        )


def copies(count: int, length: int, kinds: int) -> list[list[int]]:
    """Make `count` rows of `length` random words whose second half repeats the first."""
    chance = random.Random(count)  # noqa: S311 - not for secrets
    halves = ([chance.randrange(kinds) for _ in range(length // 2)] for _ in range(count))
    return [half + half for half in halves]


@dataclass(frozen=True, slots=True)
class Split:
    """Pictures to train with, and others to test with."""

    train: Pictures
    test: Pictures
