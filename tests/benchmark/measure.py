"""What a measurement is, and how things are timed."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from wheelyard.console.amounts import amount


class NotMeasuredError(Exception):
    """Something that a measure needs is missing; the message says what, and how to get it."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A value beside what it is compared with, both in `unit`, and what was wanted of it."""

    name: str
    what: str
    value: float
    unit: Literal["seconds", "bytes"]
    compared_with: str
    reference: float
    limit: float | None = None  # None: for information only
    limit_on: Literal["value", "ratio"] = "value"
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """The value in units of what it is compared with."""
        return self.value / self.reference

    @property
    def ok(self) -> bool | None:
        """Whether the limit is kept; None without one."""
        if self.limit is None:
            return None
        return (self.value if self.limit_on == "value" else self.ratio) <= self.limit

    @property
    def wanted(self) -> str:
        """The limit, for people."""
        if self.limit is None:
            return "-"
        if self.limit_on == "ratio":
            return f"ratio <= {self.limit:g}"
        return f"<= {self.show(self.limit)}"

    def show(self, value: float) -> str:
        """A value for people."""
        return f"{value:.2f} s" if self.unit == "seconds" else amount(value, "bytes")


def say(message: str) -> None:
    """Progress, on stderr."""
    print(f"bench: {message}", file=sys.stderr, flush=True)


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action` takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def interleaved(runs: int, actions: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Call every action `runs` times, in turn, every second round backwards; what they return."""
    values: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(runs):
        for name in list(actions)[:: -1 if number % 2 else 1]:
            values[name].append(actions[name]())
            say(f"  {name}: {values[name][-1]:.3f} s ({number + 1} of {runs})")
    return values


def median(values: list[float]) -> float:
    """The middle value; a noisy neighbour moves it less than it moves a mean."""
    return statistics.median(values)


def rounded(values: list[float]) -> list[float]:
    """Single values for the report."""
    return [round(value, 4) for value in values]
