"""One training from the first weight to the last score, the same in every framework."""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import machine
from ..training import metrics
from ..training.events import EventFile
from ..training.learner import Answers, Learner, Setup

MakeLearner = Callable[[Setup], Learner]
KEPT = ("model", "optimizer")  # of a state that names none of these, nothing was compared


@dataclass(frozen=True, slots=True)
class Curve:
    """The losses of one training and how fast it went."""

    losses: tuple[float, ...]  # the mean of each epoch
    first_step: float  # seconds from the first weight to the end of the first step
    steps: int  # timed ones: all but the first
    seconds: float  # for those


@dataclass(frozen=True, slots=True)
class Run:
    """What a training did and what came of it."""

    setup: Setup
    learner: Learner
    curve: Curve
    scores: dict[str, float]
    peak_memory: int  # bytes: of the GPU, or of this process
    forgotten: tuple[str, ...]  # what the checkpoint did not bring back
    resumed: tuple[float, float]  # a loss after the checkpoint, and again from the checkpoint

    @property
    def samples_per_second(self) -> float:
        """Throughput without the first step."""
        return self.curve.steps * self.setup.spec.batch / self.curve.seconds

    @property
    def rate(self) -> float:
        """TFLOP/s that the model's arithmetic amounts to."""
        return self.samples_per_second * self.setup.spec.training_operations / 1e12


def batches(count: int, size: int, seed: int, epoch: int) -> Iterator[list[int]]:
    """Yield row numbers in an order of the seed's: the same in every framework and device."""
    order = list(range(count))
    random.Random(seed * 1000 + epoch).shuffle(order)  # noqa: S311 - not for secrets
    for start in range(0, count - size + 1, size):
        yield order[start : start + size]


def train(make: MakeLearner, setup: Setup, log: Path | None = None) -> Run:
    """Train, test, go back to the last checkpoint and train from there again.

    With `log`, a folder, the curves are written there for TensorBoard, and the last checkpoint.
    """
    spec = setup.spec
    machine.forget_peak()
    start = time.perf_counter()
    learner = make(setup)
    with tempfile.TemporaryDirectory(prefix="selfcheck-") as scratch:
        folder = Path(scratch)
        saved: list[tuple[dict[str, str], float]] = []

        def save() -> None:
            state = learner.state()
            learner.save(folder)
            saved.append((state, learner.answers().loss))

        curve = _epochs(learner, setup, start, before_last=save)
        peak = learner.peak_memory() or machine.peak_memory()
        state, loss = saved[0]
        expected = curve.losses[-1] if learner.repeats else loss
        forgotten, again = resume(make, setup, folder, state)
        resumed = (expected, again)
    answers = learner.answers()
    scores = score(spec.task, answers)
    if log is not None:
        write_curves(log / spec.name, curve, scores)
        learner.save(log / spec.name)
    return Run(setup, learner, curve, scores, peak, forgotten, resumed)


def resume(
    make: MakeLearner, setup: Setup, folder: Path, state: Mapping[str, str]
) -> tuple[tuple[str, ...], float]:
    """Return what of `state` a checkpoint does not bring back, and the last epoch's loss.

    The loss is the mean when a new learner trains that epoch from there. A learner whose
    checkpoint leaves out its random state gives the loss on the test pictures.
    """
    learner = make(setup)
    learner.load(folder)
    back = learner.state()
    forgotten = tuple(name for name in {**state, **back} if state.get(name) != back.get(name))
    forgotten += tuple(kind for kind in KEPT if not any(kind in name for name in state))
    if not learner.repeats:
        return forgotten, learner.answers().loss
    return forgotten, _mean(learner.numbers(_epoch(learner, setup, setup.spec.epochs - 1)))


def _epochs(learner: Learner, setup: Setup, start: float, before_last: Callable[[], None]) -> Curve:
    losses: list[float] = []
    first, steps, seconds = 0.0, 0, 0.0
    for epoch in range(setup.spec.epochs):
        if epoch == setup.spec.epochs - 1:
            before_last()  # not timed
        waiting = []
        begin = time.perf_counter()
        for rows in _rows(setup, epoch):
            waiting.append(learner.step(rows))
            if not first:
                learner.numbers(waiting)
                first, begin = time.perf_counter() - start, time.perf_counter()
        numbers = learner.numbers(waiting)
        seconds += time.perf_counter() - begin
        steps += len(numbers) - (epoch == 0)
        losses.append(_mean(numbers))
    return Curve(tuple(losses), first, steps, seconds)


def _epoch(learner: Learner, setup: Setup, epoch: int) -> list[Any]:
    return [learner.step(rows) for rows in _rows(setup, epoch)]


def _rows(setup: Setup, epoch: int) -> Iterator[list[int]]:
    return batches(setup.split.train.count, setup.spec.batch, setup.seed, epoch)


def score(task: str, answers: Answers) -> dict[str, float]:
    """Compute the task's scores on the test pictures, and their loss."""
    truth, outputs = answers.truth, answers.outputs
    if task == "regression":
        values = [row[0] for row in outputs]
        scores = {
            "mse": metrics.mean_squared_error(truth, values),
            "rmse": metrics.root_mean_squared_error(truth, values),
            "pearson": metrics.pearson(truth, values),
        }
    else:
        scores = _of_classes([int(label) for label in truth], outputs)
    return {"loss": answers.loss, **scores}


def _of_classes(truth: Sequence[int], outputs: Sequence[Sequence[float]]) -> dict[str, float]:
    if len(outputs[0]) == 1:
        outputs = [[1 - row[0], row[0]] for row in outputs]
    said = [max(range(len(row)), key=row.__getitem__) for row in outputs]
    return {
        "accuracy": metrics.accuracy(truth, said),
        "recall": metrics.recall(truth, said),
        "f1": metrics.f1(truth, said),
        "roc_auc": metrics.roc_auc_of_classes(truth, outputs),
        "kappa": metrics.cohen_kappa(truth, said),
    }


def write_curves(folder: Path, curve: Curve, scores: dict[str, float]) -> None:
    """Write what TensorBoard shows."""
    events = EventFile(folder)
    try:
        for epoch, loss in enumerate(curve.losses, start=1):
            events.scalar("train/loss", epoch, loss)
        for name, value in scores.items():
            events.scalar(f"test/{name}", len(curve.losses), value)
    finally:
        events.close()


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
