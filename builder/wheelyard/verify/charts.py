"""Shapes for the page of records: curves in SVG coordinates, bars in percent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
    device: str
    kind: str  # "float32" or "mixed"; of a matrix product the type
    percent: float  # of the longest
    text: str  # the rate, in the unit of its chart
    tflops: str
    of_peak: str  # beside what the device's maker states


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
    """Return throughput by model, with its unit, one entry per image and type."""
    rates: dict[str, list[tuple[float, BarShape]]] = {}
    for record in records:
        for check in record.checks:
            for name, rate, shape in _rates(record.id, check):
                rates.setdefault(name, []).append((rate, shape))
    return {name: _scaled(entries) for name, entries in sorted(rates.items())}


def _rates(image: str, check: Mapping[str, Any]) -> Iterator[tuple[str, float, BarShape]]:
    """Yield the chart, the rate and its shape, of every type that a `bench` check measured."""
    seen = check["seen"]
    if not check["name"].startswith("bench.") or not isinstance(seen, dict):
        return
    name = check["name"].removeprefix("bench.")
    for kind, part in seen.items():
        if not isinstance(part, dict):
            continue
        speed, work, share = (part.get(x) for x in ("samples_per_second", "tflops", "of_peak"))
        told = f"{work:.3g} TFLOP/s" if isinstance(work, int | float) else ""
        beside = f"{share:.1%} of peak" if isinstance(share, int | float) else "peak not known"
        shape = BarShape(image, str(seen.get("device") or ""), kind, 0, told, "", beside)
        if isinstance(speed, int | float):
            shape = replace(shape, text=f"{speed:,.0f}", tflops=told)
            yield f"{name}, samples a second", float(speed), shape
        elif isinstance(work, int | float):  # a matrix product, which has no samples
            yield f"{name}, TFLOP/s", float(work), shape


def _scaled(entries: Sequence[tuple[float, BarShape]]) -> list[BarShape]:
    top = max(rate for rate, _shape in entries) or 1.0
    return [replace(shape, percent=round(100 * rate / top, 1)) for rate, shape in entries]
