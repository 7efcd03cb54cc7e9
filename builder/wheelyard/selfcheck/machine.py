"""The machine itself: its processor, its memory, and what this process took of it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def processor() -> str:
    """The processor's name."""
    return _field(Path("/proc/cpuinfo"), "model name") or "unknown processor"


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def forget_peak() -> bool:
    """Begin a new measurement of this process's peak memory; False where the kernel refuses."""
    with suppress(OSError):
        _REFERENCES.write_text("5")
        return True
    return False


def peak_memory() -> int:
    """The most memory this process had at once since `forget_peak`, in bytes; 0 if not known."""
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
    """What the processor can do, in the kernel's words."""
    return frozenset((_field(Path("/proc/cpuinfo"), "flags") or "").split())
