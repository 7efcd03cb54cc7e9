"""The report as bars: a function of the JSON alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tests.benchmark.engines.report import SCENARIOS

TEMPLATES = Path(__file__).parents[3] / "templates"
BAR, GAP, HEAD = 18, 6, 34  # pixels
LEFT, WIDTH = 250, 420  # of the bars


def draw(report: Mapping[str, Any]) -> str:
    """An SVG with a group of bars for each scenario, as long as their seconds."""
    measures = report["measures"]
    longest = max(x["seconds"] for x in measures)
    groups, top = [], 46
    for scenario, meaning in SCENARIOS.items():
        found = [x for x in measures if x["scenario"] == scenario]
        if found:
            groups.append({"title": f"{scenario}: {meaning}", "top": top, "bars": [
                _bar(x, top + HEAD + number * (BAR + GAP), longest)
                for number, x in enumerate(found)
            ]})  # fmt: skip
            top += HEAD + len(found) * (BAR + GAP) + GAP
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=True,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    template = environment.get_template("bench-engines.svg.j2")
    return template.render(
        groups=groups, height=top + 10, bar=BAR, left=LEFT, width=LEFT + WIDTH + 130,
        machine=report["environment"],
    )  # fmt: skip


def _bar(measure: Mapping[str, Any], top: int, longest: float) -> Mapping[str, Any]:
    ratio = measure["ratio"]
    return {
        "title": measure["title"],
        "top": top,
        "length": max(1, round(WIDTH * measure["seconds"] / longest)),
        "text": f"{measure['seconds']:.1f} s" + ("" if ratio is None else f"  ({ratio:.2f} x)"),
        "kind": "reference" if measure["way"].startswith("pip") else "ours",
    }
