"""Compute the same on the device and, in float64, on the CPU; measure the difference."""

from __future__ import annotations

from typing import Any, Protocol

from selfcheck.result import Outcome, failed, passed

# The largest difference allowed, as a part of the largest value. Steps of one type: float32 6e-8,
# tf32 and float16 5e-4, bfloat16 4e-3 (half of 2^-23, 2^-10, 2^-7); the rest is for sums of some
# hundred terms in another order.
TOLERANCES = {"float32": 1e-4, "tf32": 5e-3, "float16": 1e-2, "bfloat16": 4e-2}


class Side(Protocol):
    """A framework's computations."""

    def kinds(self, what: str, device: str) -> tuple[str, ...]:
        """The types in which this computation exists on this device."""

    def difference(self, what: str, kind: str, device: str) -> float:
        """The largest difference, as a part of the largest value."""


def compare(side: Any, what: str, device: str) -> Outcome:
    """Every type within its tolerance."""
    kinds = side.kinds(what, device)
    seen = {kind: side.difference(what, kind, device) for kind in kinds}
    wanted = {kind: TOLERANCES[kind] for kind in kinds}
    wrong = [kind for kind in kinds if not seen[kind] <= wanted[kind]]  # catches nan
    if wrong:
        return failed(f"{what} in {', '.join(wrong)} differs from the CPU's", seen, wanted)
    return passed(seen, wanted)
