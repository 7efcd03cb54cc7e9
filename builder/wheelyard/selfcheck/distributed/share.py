"""What every process of a joint training agrees on without asking the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..data import digits
from ..models.catalogue import SPECS
from ..training.learner import Setup
from ..training.run import batches

MODEL, BATCH, STEPS, SEED = "cnn-9216", 64, 12, 7


def joint_setup(device: str) -> Setup:
    """Set up the CNN without dropout, whose masks would differ between processes."""
    spec = replace(SPECS[MODEL], batch=BATCH)
    return Setup(spec, digits(), device, SEED, dropout=False, threads=1)


def shares(setup: Setup, world: int, rank: int, steps: int = STEPS) -> Iterator[list[int]]:
    """Yield one process's part of every global batch."""
    part = BATCH // world
    order = batches(setup.split.train.count, BATCH, SEED, 0)
    for _step, rows in zip(range(steps), order, strict=False):
        yield rows[rank * part : (rank + 1) * part]
