"""A check's outcome, and how a check is run: nothing a check does may end the program."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from .cell import CPU, Cell
from .trouble import explain

Status = Literal["pass", "fail", "skip"]


@dataclass(frozen=True, slots=True)
class Options:
    """What every check may ask for."""

    cell: Cell | None  # what the image is meant to hold; None outside an image
    require_gpu: bool = False  # a check skipped for want of a GPU has failed
    device: str = "auto"  # where models train: "auto", "cpu" or "cuda"
    seed: int = 7
    framework: str | None = None  # only this one
    models: tuple[str, ...] = ()  # only these; empty: all
    data: Path | None = None  # a folder of MNIST or CIFAR-10 instead of the digits
    samples: int = 6000  # of that folder, to train with
    batch: int | None = None  # instead of each model's own
    log: Path | None = None  # where curves and checkpoints go
    minutes: float = 2.0  # that `burn` loads each device
    free_memory: Callable[[], str | None] = lambda: None  # the GPUs' free memory, for people

    @property
    def cpu_only(self) -> bool:
        """Whether the image is meant to hold no CUDA."""
        return self.cell is not None and self.cell.cuda == CPU


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found; `wants_gpu` marks a skip that a GPU would have turned into an answer."""

    status: Status
    reason: str | None = None
    seen: Any = None  # JSON values only
    expected: Any = None
    wants_gpu: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the report."""

    name: str
    status: Status
    reason: str | None
    seen: Any
    expected: Any
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the mapping that `--json` prints."""
        return asdict(self)


Check = tuple[str, Callable[[], Outcome]]  # a dotted name that starts with its group, and the work
Group = Callable[[Options], Iterator[Check]]


def passed(seen: Any = None, expected: Any = None, reason: str | None = None) -> Outcome:
    """Say that the check holds."""
    return Outcome("pass", reason, seen, expected)


def failed(reason: str, seen: Any = None, expected: Any = None) -> Outcome:
    """Say that the check does not hold; the reason says what to do where that is known."""
    return Outcome("fail", reason, seen, expected)


def skipped(reason: str, seen: Any = None, *, wants_gpu: bool = False) -> Outcome:
    """Say that the check could not be made."""
    return Outcome("skip", reason, seen, None, wants_gpu)


def compared(seen: Any, expected: Any, what: str) -> Outcome:
    """Pass equal values; without an expected value only report the one that was seen."""
    if expected is None or seen == expected:
        return passed(seen, expected)
    return failed(f"{what} is {seen}, expected {expected}", seen, expected)


def run_check(check: Check, options: Options) -> Result:
    """Run one check and time it; an exception is a failure that names it."""
    name, work = check
    start = time.perf_counter()
    try:
        outcome = work()
    except Exception as error:  # noqa: BLE001 - the report must go on with the next check
        outcome = failed(explain(error, options.free_memory))
    if options.require_gpu and outcome.status == "skip" and outcome.wants_gpu:
        outcome = replace(outcome, status="fail")
    seconds = round(time.perf_counter() - start, 4)
    return Result(name, outcome.status, outcome.reason, outcome.seen, outcome.expected, seconds)
