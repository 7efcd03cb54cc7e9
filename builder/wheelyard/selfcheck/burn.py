"""Load every device, one after the other: `--level burn`, or the group by its name.

Large products are computed again and again and compared bit by bit, while NVML is asked for clocks,
power and temperature; then free memory is written and read.
"""

from __future__ import annotations

import importlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from .frameworks import MODULES, gpu_count, import_framework, pick_device, usable_frameworks
from .gpu import find_driver
from .gpu.burning import TIMES, Products, judge_memory, judge_products
from .gpu.driver import Driver
from .gpu.sampling import place_of, sampled
from .result import Check, Options, Outcome, skipped

SIZES = {"cpu": 512, "cuda": 8192}  # of the products
WINDOW = 1.0  # seconds of products of one type at a time
FREE = 0.9  # of the free memory is tried
PATTERNS = {"zeros and ones": 0x5555555555555555, "ones and zeros": -0x5555555555555556}


class Fire(Protocol):
    """A framework's side."""

    def name(self, device: str) -> str:
        """Return the device, as its maker names it."""

    def uuid(self, device: str) -> str | None:
        """Return what NVML knows it by; None where the framework does not say."""

    def kinds(self, device: str) -> tuple[str, ...]:
        """Return the types to multiply in."""

    def product(self, kind: str, device: str, size: int) -> Callable[[], int]:
        """Prepare a function that repeats the product and counts elements that differ."""

    def free(self, device: str) -> int | None:
        """Return how many bytes may be tried; None where the framework does not say."""

    def wrong(self, pattern: int | None, device: str, size: int) -> int:
        """Fill memory with the pattern, or each word's place; count the words that differ."""


def checks(options: Options) -> Iterator[Check]:
    """List the products and the memory of every device, by the first installed framework."""
    for framework in usable_frameworks(options)[:1]:
        for device in devices(framework, options):
            at = device.replace("cuda:", "gpu")
            for what, work in (("products", check_products), ("memory", check_memory)):
                yield f"burn.{what}.{at}.{framework}", partial(work, framework, device, options)


def devices(framework: str, options: Options) -> Sequence[str]:
    """List every GPU; the processor if it is asked for by name or there is no GPU."""
    if pick_device(options, framework) == "cpu":
        return ("cpu",)
    return [f"cuda:{at}" for at in range(gpu_count(framework))]


def check_products(framework: str, device: str, options: Options) -> Outcome:
    """Repeat products for some minutes: not one bit may change, nor the device be held down."""
    if reason := _idle(device, options):
        return skipped(reason, wants_gpu=True)
    fire = _side(framework)
    with sampled(_place(fire, device)) as (samples, limits):
        products = multiplied(fire, device, 60 * options.minutes)
    return judge_products(fire.name(device), products, samples, limits)


def multiplied(fire: Fire, device: str, seconds: float) -> dict[str, Products]:
    """Compute products of every type in turn until the time is over, each at least once."""
    size = SIZES[device.partition(":")[0]]
    works = {kind: fire.product(kind, device, size) for kind in fire.kinds(device)}
    counts, wrong, taken = (dict.fromkeys(works, 0) for _ in range(3))
    spent: dict[str, float] = dict(taken)
    end = time.perf_counter() + seconds
    for kind in itertools.cycle(works):
        start = time.perf_counter()
        if start > end and all(counts.values()):
            break
        while time.perf_counter() - start < WINDOW:
            wrong[kind] += works[kind]()
            counts[kind] += TIMES
        spent[kind] += time.perf_counter() - start
    return {
        kind: Products(counts[kind], wrong[kind], 2 * size**3 * counts[kind] / spent[kind] / 1e12)
        for kind in works
    }


def check_memory(framework: str, device: str, options: Options) -> Outcome:
    """Check that free memory holds patterns, and each word's own place, as they were written."""
    if reason := _idle(device, options):
        return skipped(reason, wants_gpu=True)
    fire = _side(framework)
    free = fire.free(device)
    if free is None:
        return skipped(f"{MODULES[framework]} does not say how much memory is free")
    size = int(free * FREE)
    wrong = {name: fire.wrong(value, device, size) for name, value in PATTERNS.items()}
    wrong["places"] = fire.wrong(None, device, size)
    return judge_memory(size, wrong)


def _idle(device: str, options: Options) -> str | None:
    """Say why a processor is not loaded: nobody asked for it."""
    if device == "cpu" and options.device != "cpu":
        return "no GPU to load (--device cpu loads the processor)"
    return None


def _place(fire: Fire, device: str) -> int | None:
    driver = find_driver()
    if device == "cpu" or not isinstance(driver, Driver):
        return None
    at = int(device.partition(":")[2])
    return place_of(driver, at, fire.uuid(device), os.environ.get("CUDA_VISIBLE_DEVICES"))


def _side(framework: str) -> Any:
    import_framework(framework)
    return importlib.import_module(f"{__package__}.gpu.{MODULES[framework]}_burn")
