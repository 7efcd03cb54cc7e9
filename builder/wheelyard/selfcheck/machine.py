"""The machine itself: its processor, its memory, and what this process took of it."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

_V1 = ("cpu", "cpu,cpuacct", "cpuacct,cpu")  # how hosts name the hierarchy
_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def processor() -> str:
    """Return the processor's name."""
    return _field(Path("/proc/cpuinfo"), "model name") or "unknown processor"


def cores() -> int:
    """Count the processors that this process may use, by a container's limit (docker --cpus)."""
    share = cpu_quota(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    there = len(os.sched_getaffinity(0))
    return there if share is None else max(1, min(there, math.ceil(share)))


def cpu_quota(mounted: Path, membership: Path) -> float | None:
    """Return how many processors' time the control groups allow; None where they set no limit.

    cgroup v2 `cpu.max`, v1 `cpu.cfs_quota_us`: of the own group and of those above it. In a
    container the own one is the mounted one, whatever its name on the host is.
    """
    with suppress(OSError):
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
        groups = [(kinds, path) for _number, kinds, path in lines if kinds in ("", *_V1)]
        bounds = [
            bound
            for kinds, path in groups
            for folder in (f"{mounted}/{kinds}".rstrip("/"),)
            for place in _upwards(Path(folder), path)
            if (bound := _quota(place)) is not None
        ]
        return min(bounds, default=None)
    return None


def _upwards(folder: Path, group: str) -> list[Path]:
    inner = Path(folder, group.lstrip("/"))
    return [place for place in (inner, *inner.parents) if place.is_relative_to(folder)]


def _quota(folder: Path) -> float | None:
    with suppress(OSError, ValueError):
        if (folder / "cpu.max").exists():
            quota, _, period = (folder / "cpu.max").read_text().partition(" ")
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        share = float(quota) / float(period)  # "max" is no number, and -1 no bound
        return share if share > 0 else None
    return None


def forget_peak() -> bool:
    """Begin a new measurement of this process's peak memory; False where the kernel refuses."""
    with suppress(OSError):
        _REFERENCES.write_text("5")
        return True
    return False


def peak_memory() -> int:
    """Return the most bytes this process had at once since `forget_peak`; 0 if not known."""
    kilobytes = (_field(_STATUS, "VmHWM") or "0").split()[0]
    return int(kilobytes) * 1024


def _field(path: Path, name: str) -> str | None:
    with suppress(OSError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return None


def flags() -> frozenset[str]:
    """Return what the processor can do, in the kernel's words."""
    return frozenset((_field(Path("/proc/cpuinfo"), "flags") or "").split())
