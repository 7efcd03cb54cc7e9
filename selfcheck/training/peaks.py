"""How fast a device can be: the dense rates that its maker states, in data/peaks.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Peak:
    """A stated rate."""

    rate: float  # TFLOP/s, dense
    source: str


def stated_peak(device: str, kind: str) -> Peak | None:
    """The rate of `device` (as NVML names it) for "float32", "tf32", "float16" or "bfloat16".

    The entry whose name is found in the device's is taken, the longest first; None for a device
    that is not listed: nothing is guessed.
    """
    table = _table()["devices"]
    for name in sorted(table, key=len, reverse=True):
        if name.lower() in device.lower():
            rate = table[name].get(kind) or (table[name]["float32"] if kind == "tf32" else None)
            return Peak(rate, table[name]["source"]) if rate else None
    return None


@cache
def _table() -> dict[str, Any]:
    text = files("selfcheck.data").joinpath("peaks.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table
