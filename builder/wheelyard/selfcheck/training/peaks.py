"""How fast a device can be: the dense rates that its maker states, in data/peaks.json."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

# Of a stated rate. Boards of one name differ in memory, and boost beyond what is stated, by less; a
# measurement above it has not done, or not waited for, all that it counts.
POSSIBLE = 1.3
_HARMLESS = re.compile(r"nvidia|tesla|\d+gb?|hbm3e?|sxm\d|pcie|ac")  # AC: air-cooled


@dataclass(frozen=True, slots=True)
class Peak:
    """A stated rate."""

    rate: float  # TFLOP/s, dense
    source: str


def stated_peak(device: str, kind: str) -> Peak | None:
    """Look up the rate of `device` (as NVML names it) for "float32", "tf32" and so on.

    None for a device that is not listed, and for a part of one (MIG, vGPU): nothing is guessed.
    """
    entry = _entry(device)
    rate = entry.get(kind) or (entry.get("float32") if kind == "tf32" else None)
    return Peak(rate, entry["source"]) if rate else None


def stated_memory(device: str) -> float | None:
    """Look up GB/s of a device's memory; where boards of one name differ, those of the slowest."""
    rate: float | None = _entry(device).get("memory")
    return rate


def _entry(device: str) -> dict[str, Any]:
    """Return the table's row of a device, by the longest name; empty where it is not listed."""
    table: dict[str, dict[str, Any]] = _table()["devices"]
    fitting = [name for name in table if is_named(device, name)]
    return table[max(fitting, key=len)] if fitting else {}


def is_named(device: str, name: str) -> bool:
    """Say whether `device` has all words of `name`, and none that means another chip.

    `Ti`, `D`, `Laptop`, `NVL`, `MIG` name slower or faster ones; what is left over may be memory
    and the board alone.
    """
    words, wanted = _words(device), _words(name)
    rest = [word for word in words if word not in wanted]
    return set(wanted) <= set(words) and all(map(_HARMLESS.fullmatch, rest))


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower())


@cache
def _table() -> dict[str, Any]:
    text = (
        files(f"{__package__.rpartition('.')[0]}.data")
        .joinpath("peaks.json")
        .read_text(encoding="utf-8")
    )
    table: dict[str, Any] = json.loads(text)
    return table
