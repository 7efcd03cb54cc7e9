"""Steps a second, measured in several windows after a warm-up."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .. import machine
from ..training.learner import Learner, Setup
from ..training.run import MakeLearner, batches

WARM_UP, WINDOWS, SECONDS = 3, 5, 0.3
MOST = 2000  # steps a window


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a model trains."""

    device: str
    type: str  # what it computes in
    peak_type: str  # the stated rate that this is held to
    first_step: float  # seconds from the first weight to the end of the first step
    peak_memory: int  # bytes: of the GPU, or of this process
    runs: tuple[float, ...]  # samples a second, a window each
    losses: tuple[float, ...]  # the last of each window

    @property
    def samples_per_second(self) -> float:
        """The windows' median: a noisy neighbour moves it less than a mean."""
        return statistics.median(self.runs)


def measure(make: MakeLearner, setup: Setup) -> Speed:
    """Train for a few windows of SECONDS."""
    machine.forget_peak()
    start = time.perf_counter()
    learner = make(setup)
    rows = _endless(setup)
    learner.numbers([learner.step(next(rows))])
    first = time.perf_counter() - start
    seconds, _ = _window(learner, rows, WARM_UP)
    steps = max(2, min(MOST, round(SECONDS * WARM_UP / seconds)))
    windows = [_window(learner, rows, steps) for _ in range(WINDOWS)]
    return Speed(
        learner.device_name,
        learner.mixed_type,
        learner.peak_type,
        first,
        learner.peak_memory() or machine.peak_memory(),
        tuple(steps * setup.spec.batch / taken for taken, _ in windows),
        tuple(loss for _, loss in windows),
    )


def _window(learner: Learner, rows: Iterator[list[int]], steps: int) -> tuple[float, float]:
    """Return the seconds for `steps` steps, and the last loss."""
    start = time.perf_counter()
    for _ in range(steps - 1):
        learner.step(next(rows))
    (loss,) = learner.numbers([learner.step(next(rows))])
    return time.perf_counter() - start, loss


def _endless(setup: Setup) -> Iterator[list[int]]:
    for epoch in itertools.count():
        yield from batches(setup.split.train.count, setup.spec.batch, setup.seed, epoch)


def finite(speed: Speed) -> bool:
    """Say whether no window ended in an overflow."""
    return all(map(math.isfinite, speed.losses))


def rates(work: Callable[[], object], wait: Callable[[], object], operations: float) -> list[float]:
    """Measure TFLOP/s of `work`, a window each; `wait` ends when the device is done."""
    work(), wait()
    start = time.perf_counter()
    work(), wait()
    times = max(1, min(MOST, round(SECONDS / (time.perf_counter() - start))))
    windows = []
    for _ in range(WINDOWS):
        start = time.perf_counter()
        for _ in range(times):
            work()
        wait()
        windows.append(times * operations / (time.perf_counter() - start) / 1e12)
    return windows
