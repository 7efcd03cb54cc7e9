"""From single steps to ratios, beside what is wanted."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmark.measure import say
from tests.benchmark.publish.cost import Cost, measured
from wheelyard.console.amounts import amount

if TYPE_CHECKING:
    from tests.benchmark.publish.site import Site

USUAL = "usual"
WAYS = {
    USUAL: "docker build, docker push",
    "gzip": "wheelyard build, wheelyard push",
    "zstd": "the same, push --compression zstd",
}
IMAGES = {
    "first": "PyTorch 2.3.1",
    "next": "PyTorch 2.2.1, of the same CUDA set, after it",
    "patch": "PyTorch 2.2.2, after 2.2.1",
}
LEGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "publish": ("wheels on disk to pushed", ("build", "push")),
    "start": ("pulled, to the first training step", ("pull", "step")),
    "again": ("pushed once more, all there", ("again",)),
}
# What is wanted: of the seconds, their ratio to the usual way's; of the bytes, their share of
# those of the same way's first image.
LIMITS = {
    ("gzip", "first", "publish"): ("ratio", 1 / 8),
    ("gzip", "first", "start"): ("ratio", 1.0),
    ("zstd", "first", "start"): ("ratio", 0.65),
    ("gzip", "first", "again"): ("seconds", 2.0),
    ("gzip", "next", "publish"): ("share", 0.4),
    ("gzip", "next", "start"): ("share", 0.4),
}
COLUMNS = ("image", "leg", "way", "seconds", "ratio", "on the wire", "share", "CPU", "wanted", "")


@dataclass(frozen=True, slots=True)
class Run:
    """One step of one way."""

    engine: str
    way: str
    image: str
    phase: str
    cost: Cost

    @classmethod
    def of(
        cls,
        site: Site,
        way: str,
        image: str,
        phase: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        stdin: Path = Path(os.devnull),
    ) -> Run:
        """Run a command, measured."""
        cost = measured(command, site.log, env=environment, cwd=site.project, stdin=stdin)
        say(f"  {way}, {image}: {phase} {cost.seconds:.1f} s, {amount(cost.wire_bytes, 'bytes')}")
        return cls(site.kind.name, way, image, phase, cost)

    def as_json(self) -> dict[str, Any]:
        """An entry of the report."""
        names = {"engine": self.engine, "way": self.way, "image": self.image, "phase": self.phase}
        return {**names, **asdict(self.cost)}


def read_run(entry: Mapping[str, Any]) -> Run:
    """A step from its entry in a report."""
    cost = Cost(**{field.name: entry[field.name] for field in fields(Cost)})
    return Run(entry["engine"], entry["way"], entry["image"], entry["phase"], cost)


@dataclass(frozen=True, slots=True)
class Result:
    """A leg of the way that an image goes, beside the usual way's."""

    engine: str
    way: str
    image: str
    leg: str
    cost: Cost
    ratio: float | None  # of the seconds, to the usual way's; None where that was not measured
    share: float | None  # of the bytes, to those of the same way's first image

    @property
    def wanted(self) -> tuple[str, float] | None:
        """What is limited, and by how much."""
        return LIMITS.get((self.way, self.image, self.leg))

    @property
    def ok(self) -> bool | None:
        """Whether the limit is kept; None where there is none, or nothing to compare with."""
        if self.wanted is None:
            return None
        what, limit = self.wanted
        value = self.cost.seconds if what == "seconds" else getattr(self, what)
        return None if value is None else bool(value <= limit)

    def as_json(self) -> dict[str, Any]:
        """An entry of the report."""
        entry = asdict(self)
        return {**entry, **entry.pop("cost"), "wanted": self.wanted, "ok": self.ok}

    def row(self) -> Sequence[str]:
        """A line of the table."""
        verdict = {True: "ok", False: "MISSED", None: ""}[self.ok]
        wanted = "{} <= {:.3g}".format(*self.wanted) if self.wanted else ""
        numbers = ("-" if x is None else f"{x:.3f}" for x in (self.ratio, self.share))
        ratio, share = numbers
        return (
            self.image, self.leg, self.way, f"{self.cost.seconds:.1f}", ratio,
            amount(self.cost.wire_bytes, "bytes"), share, f"{self.cost.cpu_seconds:.1f}",
            wanted, verdict,
        )  # fmt: skip


def measurements(runs: Sequence[Run]) -> list[Result]:
    """Every leg that was run, of every image by every way."""
    engines = dict.fromkeys(run.engine for run in runs)
    places = [
        (engine, image, leg, way)
        for engine in engines for image in IMAGES for leg in LEGS for way in WAYS
    ]  # fmt: skip
    costs = {place: cost for place in places if (cost := _cost(runs, *place))}
    return [
        Result(
            engine, way, image, leg, cost,
            ratio=_ratio(cost.seconds, costs.get((engine, image, leg, USUAL)), "seconds"),
            share=_ratio(cost.wire_bytes, costs.get((engine, "first", leg, way)), "wire_bytes"),
        )
        for (engine, image, leg, way), cost in costs.items()
    ]  # fmt: skip


def _cost(runs: Sequence[Run], engine: str, image: str, leg: str, way: str) -> Cost | None:
    _title, phases = LEGS[leg]
    found = {x.phase: x.cost for x in runs if (x.engine, x.image, x.way) == (engine, image, way)}
    if any(phase not in found for phase in phases):
        return None
    return reduce(add, (found[phase] for phase in phases))


def _ratio(value: float, other: Cost | None, what: str) -> float | None:
    return round(value / getattr(other, what), 4) if other and getattr(other, what) else None
