"""How long something that does not come is asked for again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wheelyard.fetching.replies import Interrupted


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a file that does not come is asked for."""

    attempts: int = 6  # in a row without a byte gained
    first_wait: float = 0.5  # seconds; doubles with each attempt
    longest_wait: float = 30.0  # seconds, of our own back-off
    longest_retry_after: float = 300.0  # seconds that a server may ask for


PATIENCE = Patience()


class GaveUp(Exception):  # noqa: N818 - a decision, not a defect
    """There is no further attempt; the message says why."""


def next_wait(error: Interrupted, failures: int, patience: Patience) -> float:
    """Seconds until the next attempt, after `failures` in a row; raises GaveUp."""
    if failures >= patience.attempts:
        raise GaveUp(f"{error}; gave up after {failures} attempts")
    if error.wait is None:
        backoff: float = min(patience.longest_wait, patience.first_wait * 2 ** max(0, failures - 1))
        return backoff * random.uniform(0.5, 1)  # noqa: S311 - spreads load, guards nothing
    if error.wait > patience.longest_retry_after:
        raise GaveUp(f"{error}; the server asks to come back in {error.wait:.0f} s")
    return error.wait
