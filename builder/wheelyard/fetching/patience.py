"""How long a failed request is repeated."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from wheelyard.console.tasks import Reporter
from wheelyard.fetching.replies import Interrupted, RangeRefused
from wheelyard.system.threads import Stopped

Value = TypeVar("Value")


class GaveUp(Exception):  # noqa: N818 - a decision, not a defect
    """There is no further attempt; the message says why."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a failed request is repeated."""

    attempts: int = 6  # in a row without a byte gained
    first_wait: float = 0.5  # seconds; doubles with each attempt
    longest_wait: float = 30.0  # seconds, of our own back-off
    longest_retry_after: float = 300.0  # seconds that a server may ask for

    def next_wait(self, error: Interrupted, failures: int) -> float:
        """Return the seconds until the next attempt, after `failures` in a row; or raise GaveUp."""
        if failures >= self.attempts:
            raise GaveUp(f"{error}; gave up after {failures} attempts")
        if error.wait is None:
            backoff: float = min(self.longest_wait, self.first_wait * 2 ** max(0, failures - 1))
            return backoff * random.uniform(0.5, 1)  # noqa: S311 - spreads load, guards nothing
        if error.wait > self.longest_retry_after:
            raise GaveUp(
                f"{error}; the server asks for a pause of {error.wait:.0f} s; try again later"
            )
        return error.wait

    def pause(
        self,
        error: Interrupted,
        failures: int,
        stop: threading.Event,
        reporter: Reporter | None,
        what: str,
    ) -> None:
        """Wait for the next attempt; raises GaveUp where there is none, Stopped when told to.

        Without a reporter it is silent.
        """
        seconds = self.next_wait(error, failures)
        if isinstance(error, RangeRefused):  # the whole file may be asked for at once
            return
        if reporter is not None:
            reporter.info(f"{what}: {error}; trying again in {seconds:.1f} s")
        if stop.wait(seconds):
            raise Stopped


PATIENCE = Patience()


def patiently(ask: Callable[[], Value], pause: Callable[[Interrupted, int], None]) -> Value:
    """Ask until an answer comes; `pause` gets each interruption and how many there were."""
    failures = 0
    while True:
        try:
            return ask()
        except Interrupted as error:
            failures += 1
            pause(error, failures)
