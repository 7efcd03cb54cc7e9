"""What follows from a device's products and samples under load. Pure: nothing is asked here.

A product that is computed again from the same numbers, in the same memory, by the same library has
the same bits (cuBLAS, results reproducibility); one that has not was computed wrongly once.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from ..gpu.driver import SLOWED
from ..result import Outcome, failed, passed
from ..training.peaks import POSSIBLE, stated_peak

TIMES = 8  # products in one call of a framework's work, compared on the device
# Of the stated rate. Boards of 70 W (T4, L4) reach 40 % of theirs, large ones 60 to 90 %; below
# this floor clocks are stuck, or somebody else computes here too.
RATE = 0.3
POWER = 0.4  # of the limit, as a median: large products take nearly all of it
CLOCK = 0.35  # of the highest clock, as a median
HELD = 0.1  # of the samples may have their clocks held down by heat or a power brake
POWER_CAP = 0x04  # nvmlClocksThrottleReasonSwPowerCap: the board's limit, as it should be


@dataclass(frozen=True, slots=True)
class Sample:
    """A GPU at one moment; None: it does not say."""

    clock: int | None = None  # MHz, of the multiprocessors
    power: float | None = None  # W
    temperature: int | None = None  # degrees Celsius
    reasons: int = 0  # why its clocks are held down, NVML's bits


@dataclass(frozen=True, slots=True)
class Limits:
    """What a GPU may reach at most; None: it does not say."""

    clock: int | None = None
    power: float | None = None
    temperature: int | None = None  # where it slows itself down


@dataclass(frozen=True, slots=True)
class Products:
    """Products of one type: how many, how many of their elements changed, and how fast."""

    count: int
    different: int
    tflops: float


def judge_products(
    device: str, products: Mapping[str, Products], samples: Sequence[Sample], limits: Limits
) -> Outcome:
    """Fail if a bit changed, or the device was slower, hotter or less busy than it should be."""
    seen = {
        "device": device,
        "products": {kind: asdict(each) for kind, each in products.items()},
        "samples": len(samples),
        "clock": _range([each.clock for each in samples]),
        "power": _range([each.power for each in samples]),
        "temperature": _range([each.temperature for each in samples]),
        "limits": asdict(limits),
    }
    if not any(each.count for each in products.values()):
        return failed("nothing was computed", seen)
    if wrong := [kind for kind, each in products.items() if each.different]:
        return failed(
            f"the same product came out differently in {', '.join(wrong)}: the device computes "
            "wrongly under load; take it out of use, and look for Xid lines in dmesg", seen,
        )  # fmt: skip
    if faults := [*_slow(device, products), *_held(samples, limits)]:
        return failed("; ".join(faults), seen)
    return passed(seen, reason="; ".join(_remarks(samples)) or None)


def _slow(device: str, products: Mapping[str, Products]) -> Iterator[str]:
    for kind, each in products.items():
        peak = stated_peak(device, kind)
        if peak and each.tflops > POSSIBLE * peak.rate:
            yield f"{each.tflops:.1f} TFLOP/s in {kind} are more than can be: not all was computed"
        if peak and not each.tflops >= RATE * peak.rate:
            yield (
                f"{each.tflops:.1f} TFLOP/s in {kind} are {each.tflops / peak.rate:.0%} of what is "
                f"stated, and {RATE:.0%} is the least: does another process use it?"
            )


def _held(samples: Sequence[Sample], limits: Limits) -> Iterator[str]:
    """Say what slowed the GPU down, by what NVML reported meanwhile."""
    for bit, text in SLOWED.items():
        share = sum(bool(each.reasons & bit) for each in samples) / max(1, len(samples))
        if share > HELD:
            yield f"clocks were held down in {share:.0%} of the samples: {text}"
    hottest = max((each.temperature for each in samples if each.temperature), default=0)
    if limits.temperature and hottest >= limits.temperature:
        yield f"{hottest} degrees are as hot as it may get ({limits.temperature}): see its cooling"
    clock, power = (
        _median([getattr(each, name) for each in samples]) for name in ("clock", "power")
    )
    if clock is not None and limits.clock and clock < CLOCK * limits.clock:
        yield f"its clock was {clock:.0f} of {limits.clock} MHz under load"
    if power is not None and limits.power and power < POWER * limits.power:
        yield f"it drew {power:.0f} of {limits.power:.0f} W under load"


def _remarks(samples: Sequence[Sample]) -> Iterator[str]:
    if not any(each != Sample() for each in samples):
        yield "clocks, power and temperature are not known here"
    elif sum(bool(each.reasons & POWER_CAP) for each in samples) > len(samples) / 2:
        yield "its power limit holds its clocks down, as it should be"


def judge_memory(size: int, wrong: Mapping[str, int]) -> Outcome:
    """Fail unless every pattern was read as it was written; `wrong` counts words by pattern."""
    seen = {"mebibytes": size >> 20, "wrong": dict(wrong)}
    if not size or not wrong:
        return failed("no memory was free to be tried", seen)
    if any(wrong.values()):
        return failed("memory does not hold what was written to it: take the device out", seen)
    return passed(seen)


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _median(values: Sequence[float | None]) -> float | None:
    return statistics.median(_known(values)) if _known(values) else None


def _range(values: Sequence[float | None]) -> list[float] | None:
    """Return the least, the middle and the most."""
    known = _known(values)
    return [min(known), statistics.median(known), max(known)] if known else None
