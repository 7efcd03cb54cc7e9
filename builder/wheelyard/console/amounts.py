"""Numbers of bytes and items, as people read them."""

from __future__ import annotations

from typing import Literal

Unit = Literal["bytes", "items"]


def amount(value: float, unit: Unit) -> str:
    """Format `value` for people: decimal multiples of a byte, or a count."""
    if unit == "items":
        return f"{value:.0f}"
    for name in ("B", "kB", "MB"):
        if abs(value) < 1000:
            return f"{value:.0f} B" if name == "B" else f"{value:.1f} {name}"
        value /= 1000
    return f"{value:.2f} GB"


def summary(done: int, seconds: float, unit: Unit) -> str:
    """Say what was done, in how much time and, for bytes, how fast."""
    counted = "" if unit == "bytes" else " item" if done == 1 else " items"
    text = f"{amount(done, unit)}{counted} in {seconds:.1f} s"
    if unit == "bytes" and seconds > 0:
        text += f" ({amount(done / seconds, unit)}/s)"
    return text
