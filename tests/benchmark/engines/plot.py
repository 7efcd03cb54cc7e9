"""The report as bars: a function of the JSON alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.benchmark.bars import Bar, Heading, draw_bars
from tests.benchmark.engines.report import SCENARIOS
from tests.benchmark.engines.stores import STORES, compared_in
from tests.benchmark.engines.ways import PIP, PIP_CLASSIC, RELOAD

REFERENCES = (PIP.name, PIP_CLASSIC.name, RELOAD.name)  # not ours


def draw(report: Mapping[str, Any]) -> str:
    """An SVG with a group of bars for each store and scenario."""
    machine, measures = report["environment"], report["measures"]
    heading = Heading(
        "PyTorch 2.3.1, from nothing to an image in the engine",
        "seconds, and ratio to pip in the same image store; "
        f"{machine['processor']}, {machine['cores']} cores",
        "tests.benchmark.engines", "bench-engines.json",
    )  # fmt: skip
    groups = {
        f"{store} store, {scenario}: {meaning}": [
            Bar(x["title"], x["seconds"], x["ratio"], x["way"] in REFERENCES)
            for x in measures if (compared_in(x["store"]), x["scenario"]) == (store, scenario)
        ]
        for store in STORES for scenario, meaning in SCENARIOS.items()
    }  # fmt: skip
    return draw_bars(heading, {title: bars for title, bars in groups.items() if bars})
