"""The first script of every course: MNIST by torchvision, from the files to a saved model.

Load, transform, train, evaluate, save and load again, each as people write it, with torchvision's
own classes. The files are made here, of our digits; nothing is downloaded.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..data import digits
from ..data.idx import write_mnist
from ..frameworks import import_framework
from ..models.catalogue import SPECS
from ..result import Outcome, failed, passed, skipped
from ..training.learner import NotHereError

CLOSE = 1e-6  # of a pixel: float32


@dataclass(frozen=True, slots=True)
class Course:
    """What the script showed."""

    counts: tuple[int, int]  # pictures to train with, and to test with
    pixels: float  # the largest difference of one picture's from those that were written
    labels: bool  # whether all are those that were written
    losses: Sequence[float]  # the mean of each epoch
    accuracy: float  # on unseen pictures
    same: bool  # whether the saved model answers as the one that was trained, bit by bit


def check_mnist(device: str, seed: int) -> Outcome:
    """Run the script on our digits."""
    import_framework("pytorch")
    from ..training import mnist_torch

    split = digits()
    with tempfile.TemporaryDirectory(prefix="selfcheck-") as folder:
        write_mnist(Path(folder), split)
        try:
            course = mnist_torch.run(Path(folder), split, device, seed)
        except NotHereError as missing:
            return skipped(str(missing))
    return judge(course, (split.train.count, split.test.count))


def judge(course: Course, counts: tuple[int, int]) -> Outcome:
    """Compare every step of the script with what it must lead to."""
    spec, seen = SPECS["mlp"], asdict(course)
    wanted = {"loss_below": spec.loss, "accuracy_at_least": spec.score}
    if course.counts != counts or not course.labels:
        return failed("torchvision does not read the labels that were written", seen, counts)
    if not course.pixels <= CLOSE:  # catches nan
        return failed("a picture comes out of its transforms as another one", seen)
    if not all(map(math.isfinite, course.losses)):
        return failed("the loss is not a finite number", seen)
    if not course.losses[-1] <= min(spec.loss, course.losses[0]):
        return failed(f"the loss fell to {course.losses[-1]:.4g} only", seen, wanted)
    if not course.accuracy >= spec.score:
        return failed(f"the accuracy is {course.accuracy:.4g} only", seen, wanted)
    if not course.same:
        return failed("the model that was saved answers otherwise when it is loaded", seen)
    return passed(seen, wanted)
