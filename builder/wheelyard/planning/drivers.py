"""Which NVIDIA driver a CUDA version needs on the host; the figures are in data/drivers.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from wheelyard.errors import MatrixError
from wheelyard.planning.facts import CPU
from wheelyard.versions import order


@dataclass(frozen=True, slots=True)
class DriverFloor:
    """The host drivers for one CUDA version."""

    minimum: str  # "525.60.13": runs it by minor-version compatibility
    reports: str  # "12.0": the CUDA version that this driver says it supports
    native: str | None  # "530.30.02": the driver that came with it; None: not listed


def driver_floor(cuda: str) -> DriverFloor:
    """Return the floor for a CUDA version such as "12.1"; MatrixError for an unknown major."""
    table = driver_table()
    major = cuda.partition(".")[0]
    if major not in table["minor_version"]:
        raise MatrixError(
            f"CUDA {cuda}: the driver floor of CUDA {major} is unknown;"
            " add it to builder/wheelyard/data/drivers.json"
        )
    floor = table["minor_version"][major]
    return DriverFloor(floor["driver"], floor["reports"], table["native"].get(cuda))


def generation_floor(capability: str) -> tuple[str, str] | None:
    """Return the first CUDA that knows a GPU such as "12.0", and the driver released with it.

    None for a generation that every supported driver knows.
    """
    table = driver_table()
    cuda = table["generations"].get(capability)
    return None if cuda is None else (cuda, str(table["native"][cuda]))


def runs_on(cuda: str, driver: str) -> bool:
    """Tell whether a driver such as "550.54.14" is new enough for a CUDA version, or for CPU."""
    return cuda == CPU or order(driver) >= order(driver_floor(cuda).minimum)


def newest_major() -> tuple[str, str]:
    """Return the newest known CUDA major and the driver that it needs."""
    table = driver_table()["minor_version"]
    major = max(table, key=int)
    return major, str(table[major]["driver"])


def too_old(cuda: str, driver: str) -> str | None:
    """Say what a driver that is too old for a CUDA version lacks; None if it suffices."""
    if runs_on(cuda, driver):
        return None
    needed = driver_floor(cuda).minimum
    return f"CUDA {cuda} needs driver {needed} or newer; {driver} is too old"


def require_cuda(cuda: str) -> str:
    """Return NVIDIA_REQUIRE_CUDA: what the container runtime requires of the host's driver.

    The runtime compares with the CUDA version that the *driver* reports. Any driver of the same
    major runs the image (minor-version compatibility), and so does every newer one; requiring the
    image's own minor would reject drivers that work. The brand alternatives that nvidia/cuda images
    add are valid only with their cuda-compat libraries, which we do not ship.
    """
    return f"cuda>={driver_floor(cuda).reports}"


@cache
def driver_table() -> dict[str, Any]:
    """Return the figures: drivers by CUDA major and version, and the CUDA of each generation."""
    text = files("wheelyard").joinpath("data/drivers.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table
