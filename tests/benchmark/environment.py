"""The machine that numbers were taken on."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

from tests.benchmark.place import Place


def environment(place: Place) -> dict[str, object]:
    """Processor, memory, system, file system, commit, and how busy the machine was."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _output(["git", "-C", str(place.project), "describe", "--always", "--dirty"]),
        "processor": _field("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "file_system": _output(["stat", "-f", "-c", "%T", str(place.folder)]),
        "load_before": list(os.getloadavg()),
    }


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _output(argv: list[str]) -> str:
    try:
        result = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return result.stdout.strip() or "unknown"
