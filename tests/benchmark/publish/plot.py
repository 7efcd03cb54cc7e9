"""The report as bars: a function of the JSON alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.benchmark.bars import Bar, Heading, draw_bars
from tests.benchmark.publish.report import IMAGES, LEGS, USUAL, WAYS


def draw(report: Mapping[str, Any]) -> str:
    """An SVG with a group of bars for each leg of each image, on each engine."""
    machine, measures = report["environment"], report["measures"]
    heading = Heading(
        "From wheels on disk to the first training step elsewhere",
        "seconds, and ratio to docker build and docker push; "
        f"{machine['processor']}, {machine['cores']} cores",
        "tests.benchmark.publish", "bench-publish.json",
    )  # fmt: skip
    groups = {
        f"{image} ({engine}): {legs[0]}": [
            Bar(WAYS[x["way"]], x["seconds"], x["ratio"], x["way"] == USUAL)
            for x in measures if (x["engine"], x["image"], x["leg"]) == (engine, name, leg)
        ]
        for engine in dict.fromkeys(x["engine"] for x in measures)
        for name, image in IMAGES.items() for leg, legs in LEGS.items()
    }  # fmt: skip
    return draw_bars(heading, {title: bars for title, bars in groups.items() if bars})
