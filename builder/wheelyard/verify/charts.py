"""Shapes for the page of records: curves in SVG coordinates, bars in percent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wheelyard.verify.record import Record

WIDTH, HEIGHT = 200, 90  # of a curve


@dataclass(frozen=True, slots=True)
class CurveShape:
    """The losses of one training."""

    title: str  # "cnn-9216.pytorch"
    points: str  # of an SVG polyline
    losses: Sequence[str]  # of every epoch, for people
    top: str  # the highest, at the upper end of the frame
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class BarShape:
    """One throughput, as a part of the highest of its model."""

    title: str
    kind: str  # "float32" or "mixed"
    percent: float  # of the longest
    text: str


def curves(record: Record) -> list[CurveShape]:
    """Return every training of an image that has losses to show."""
    found = []
    for check in record.checks:
        seen = check["seen"]
        if check["name"].startswith("train.") and isinstance(seen, dict) and "scores" in seen:
            losses = [float(loss) for loss in seen["losses"] if loss is not None]
            scores = {name: value for name, value in seen["scores"].items() if value is not None}
            if not losses:  # selfcheck writes null for nan: there is no curve then
                continue
            title = check["name"].removeprefix("train.")
            said = [f"{loss:.3g}" for loss in losses]
            top = f"{max(losses):.3g}"
            found.append(CurveShape(title, polyline(losses), said, top, scores))
    return found


def polyline(losses: Sequence[float]) -> str:
    """Return points from left to right, the highest loss on top, zero at the bottom."""
    top = max(losses) or 1.0
    step = WIDTH / max(1, len(losses) - 1)
    return " ".join(
        f"{at * step:.1f},{HEIGHT * (1 - loss / top):.1f}" for at, loss in enumerate(losses)
    )


def bars(records: Iterable[Record]) -> dict[str, list[BarShape]]:
    """Return throughput by model, one entry per image and type."""
    speeds: dict[str, list[tuple[str, str, float]]] = {}
    for record in records:
        for check in record.checks:
            for kind, speed in _speeds(check):
                name = check["name"].removeprefix("bench.")
                speeds.setdefault(name, []).append((record.id, kind, speed))
    return {name: _shapes(entries) for name, entries in sorted(speeds.items())}


def _speeds(check: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    seen = check["seen"]
    if check["name"].startswith("bench.") and isinstance(seen, dict):
        for kind in ("float32", "mixed"):
            part = seen.get(kind)
            if isinstance(part, dict) and "samples_per_second" in part:
                yield kind, float(part["samples_per_second"])


def _shapes(entries: Sequence[tuple[str, str, float]]) -> list[BarShape]:
    top = max(speed for _title, _kind, speed in entries) or 1.0
    return [
        BarShape(title, kind, round(100 * speed / top, 1), f"{speed:,.0f}")
        for title, kind, speed in entries
    ]
