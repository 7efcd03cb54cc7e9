"""From single runs to ratios, beside what is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from tests.benchmark.engines.stores import STORES, compared_in
from tests.benchmark.engines.watch import Sample
from tests.benchmark.engines.ways import PIP, WAYS
from tests.benchmark.measure import median
from wheelyard.console.amounts import amount

SCENARIOS = {
    "cold": "no wheel in any cache",
    "warm": "wheels and layers cached, the engine has only the base",
    "changed": "one small tool more",
    "same": "nothing changed",
}
LIMITS = {("docker", "cold"): 0.8, ("assemble", "cold"): 0.5, ("assemble", "warm"): 0.3}
COLUMNS = (
    "store", "scenario", "way", "seconds", "ratio", "wanted", "", "memory", "received", "image",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """One build by one way."""

    store: str  # where the engine keeps its images
    way: str
    scenario: str
    sample: Sample
    image_bytes: int  # as the engine counts

    def as_json(self) -> dict[str, Any]:
        """An entry of the report."""
        names = {"store": self.store, "way": self.way, "scenario": self.scenario}
        return {**names, **asdict(self.sample), "image_bytes": self.image_bytes}


def read_run(entry: Mapping[str, Any]) -> Run:
    """A run from its entry in a report; one without a store is of when there was only one."""
    stores = {way.name: way.stores for way in WAYS}
    names = [field.name for field in fields(Sample)]
    sample = Sample(**{name: entry[name] for name in names})
    store = entry.get("store") or stores[entry["way"]][0]
    return Run(store, entry["way"], entry["scenario"], sample, entry["image_bytes"])


@dataclass(frozen=True, slots=True)
class Result:
    """A way in a store and a scenario, beside pip in the same ones."""

    store: str
    way: str
    title: str
    scenario: str
    seconds: float  # the median of the runs
    peak_bytes: int  # the most of the runs
    received_bytes: int  # likewise
    image_bytes: int
    ratio: float | None  # to pip's seconds; None where pip was not measured

    @property
    def limit(self) -> float | None:
        """The ratio that is wanted."""
        return LIMITS.get((self.way, self.scenario))

    @property
    def ok(self) -> bool | None:
        """Whether it is kept; None where there is none, or nothing to compare with."""
        return None if self.limit is None or self.ratio is None else self.ratio <= self.limit

    def as_json(self) -> dict[str, Any]:
        """An entry of the report."""
        return {**asdict(self), "limit": self.limit, "ok": self.ok}

    def row(self) -> Sequence[str]:
        """A line of the table."""
        verdict = {True: "ok", False: "MISSED", None: ""}[self.ok]
        ratio = "-" if self.ratio is None else f"{self.ratio:.2f}"
        limit = "-" if self.limit is None else f"<= {self.limit:g}"
        sizes = (self.peak_bytes, self.received_bytes, self.image_bytes)
        shown = (amount(size, "bytes") for size in sizes)
        names = (self.store, self.scenario, self.title)
        return (*names, f"{self.seconds:.1f}", ratio, limit, verdict, *shown)


def measurements(runs: Sequence[Run]) -> list[Result]:
    """Every way in every store and scenario that was run, beside each other what is compared."""
    results = []
    for reference in STORES:
        for scenario in SCENARIOS:
            near = [x for x in runs if (compared_in(x.store), x.scenario) == (reference, scenario)]
            for way in WAYS:
                if found := [x for x in near if x.way == way.name]:
                    results.append(_result(way.title, found, _seconds(near, PIP.name)))
    return results


def _result(title: str, runs: Sequence[Run], reference: float | None) -> Result:
    first = runs[0]
    seconds = median([run.sample.seconds for run in runs])
    return Result(
        store=first.store,
        way=first.way,
        title=title,
        scenario=first.scenario,
        seconds=round(seconds, 2),
        peak_bytes=max(run.sample.peak_bytes for run in runs),
        received_bytes=max(run.sample.received_bytes for run in runs),
        image_bytes=first.image_bytes,
        ratio=None if reference is None else round(seconds / reference, 3),
    )


def _seconds(runs: Sequence[Run], way: str) -> float | None:
    found = [x.sample.seconds for x in runs if x.way == way]
    return median(found) if found else None
