"""Ask NVML about one GPU again and again while it computes. Judges nothing."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..gpu.burning import Limits, Sample
from ..gpu.driver import Driver, optional

EVERY = 0.5  # seconds
SM_CLOCK, CORE, SLOWDOWN = 1, 0, 1  # NVML_CLOCK_SM, NVML_TEMPERATURE_GPU, ..._THRESHOLD_SLOWDOWN


def place_of(driver: Driver, at: int, uuid: str | None, visible: str | None) -> int | None:
    """Find which of the driver's GPUs is the framework's device `at`; None where unknown.

    By its uuid where the framework knows it; else CUDA's order is NVML's only among equal GPUs,
    and while no variable picks some.
    """
    places = {gpu.uuid: place for place, gpu in enumerate(driver.gpus)}
    if uuid is not None and (known := places.get(f"GPU-{uuid.removeprefix('GPU-')}")) is not None:
        return known
    if len(driver.gpus) == 1:
        return 0
    equal = len({gpu.name for gpu in driver.gpus}) == 1
    return at if equal and visible is None and at < len(driver.gpus) else None


@contextmanager
def sampled(place: int | None) -> Iterator[tuple[list[Sample], Limits]]:
    """Collect samples in a thread for as long as the context lasts; none where NVML is not here."""
    if place is None or not importlib.util.find_spec("pynvml"):
        yield [], Limits()
        return
    import pynvml

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(place)
        samples: list[Sample] = []
        done = threading.Event()

        def collect() -> None:
            while not done.wait(EVERY):
                samples.append(sample(pynvml, handle))

        thread = threading.Thread(target=collect, daemon=True)
        thread.start()
        try:
            yield samples, limits(pynvml, handle)
        finally:
            done.set()
            thread.join()
    finally:
        pynvml.nvmlShutdown()


def sample(nvml: Any, handle: Any) -> Sample:
    """Ask what the GPU does now."""
    power = optional(nvml, "nvmlDeviceGetPowerUsage", handle)
    return Sample(
        optional(nvml, "nvmlDeviceGetClockInfo", handle, SM_CLOCK),
        None if power is None else power / 1000,
        optional(nvml, "nvmlDeviceGetTemperature", handle, CORE),
        optional(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", handle) or 0,
    )


def limits(nvml: Any, handle: Any) -> Limits:
    """Ask what the GPU may reach."""
    power = optional(nvml, "nvmlDeviceGetEnforcedPowerLimit", handle)
    return Limits(
        optional(nvml, "nvmlDeviceGetMaxClockInfo", handle, SM_CLOCK),
        None if power is None else power / 1000,
        optional(nvml, "nvmlDeviceGetTemperatureThreshold", handle, SLOWDOWN),
    )
