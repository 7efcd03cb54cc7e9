"""Groups of bars as an SVG: a function of its arguments alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parents[2] / "templates"
BAR, GAP, HEAD = 18, 6, 34  # pixels
LEFT, WIDTH = 250, 420  # of the bars


@dataclass(frozen=True, slots=True)
class Bar:
    """A line of the plot."""

    title: str
    seconds: float
    ratio: float | None
    is_reference: bool


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands above the bars, and who drew them from what."""

    title: str
    subtitle: str
    module: str
    source: str


def draw_bars(heading: Heading, groups: Mapping[str, Sequence[Bar]]) -> str:
    """An SVG with a group for each title, its bars as long as their seconds.

    It is light or dark as the page that shows it, or else as the reader's system.
    """
    longest = max(bar.seconds for bars in groups.values() for bar in bars)
    drawn, top = [], 46
    for title, bars in groups.items():
        drawn.append({"title": title, "top": top, "bars": [
            _bar(bar, top + HEAD + number * (BAR + GAP), longest)
            for number, bar in enumerate(bars)
        ]})  # fmt: skip
        top += HEAD + len(bars) * (BAR + GAP) + GAP
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=True,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template("bars.svg.j2").render(
        groups=drawn, height=top + 10, bar=BAR, left=LEFT, width=LEFT + WIDTH + 130,
        heading=heading,
    )  # fmt: skip


def _bar(bar: Bar, top: int, longest: float) -> Mapping[str, Any]:
    return {
        "title": bar.title,
        "top": top,
        "length": max(1, round(WIDTH * bar.seconds / longest)),
        "text": f"{bar.seconds:.1f} s" + ("" if bar.ratio is None else f"  ({bar.ratio:.2f} x)"),
        "kind": "reference" if bar.is_reference else "ours",
    }
