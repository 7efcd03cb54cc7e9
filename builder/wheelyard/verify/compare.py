"""Compares two benchmark reports: what became slower beyond noise. Pure."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wheelyard.errors import UsageError

_FLOOR = 0.05  # smaller relative differences are ignored
_SPREADS = 2.0  # multiple of the windows' spread that a difference must exceed


@dataclass(frozen=True, slots=True)
class Series:
    """One throughput: higher is better."""

    name: str  # "bench.cnn-9216.pytorch float32"
    runs: tuple[float, ...]
    setting: tuple[object, ...] = ()  # the device's name, the batch, the type
    processes: bool = False  # each run is the median of a process of its own

    @property
    def middle(self) -> float:
        """The median."""
        return statistics.median(self.runs)

    @property
    def spread(self) -> float:
        """Half of the range of the middle half of the runs, relative to the median.

        Of processes, which are few, half of the whole range.
        """
        if self.processes:
            return (max(self.runs) - min(self.runs)) / 2 / self.middle
        if len(self.runs) < 4 or not self.middle:
            return 0.0
        low, _, high = statistics.quantiles(self.runs, n=4)
        return (high - low) / 2 / self.middle


@dataclass(frozen=True, slots=True)
class Comparison:
    """One throughput in both reports."""

    name: str
    before: float
    after: float
    noise: float  # the relative difference that is noise
    alike: bool = True  # same device, batch and type

    @property
    def ratio(self) -> float:
        """The new value in units of the old one."""
        return self.after / self.before

    @property
    def verdict(self) -> str:
        """`slower`, `faster`, `same` within noise; `other` if the settings differ."""
        if not self.alike:
            return "other"
        if self.ratio < 1 - self.noise:
            return "slower"
        return "faster" if self.ratio > 1 + self.noise else "same"


def read_series(path: Path) -> dict[str, Series]:
    """Return every throughput of a report of `selfcheck bench --json`; else UsageError.

    A folder holds the reports of several processes: one run each, and their spread is the noise.
    """
    if path.is_dir():
        return _of_processes(path, [_read(file) for file in sorted(path.glob("*.json"))])
    return _read(path)


def _of_processes(folder: Path, reports: Sequence[Mapping[str, Series]]) -> dict[str, Series]:
    if len(reports) < 2:
        raise UsageError(f"{folder} has {len(reports)} reports (*.json); at least 2 are compared")
    found = {}
    for name in (name for name in reports[0] if all(name in report for report in reports)):
        series = [report[name] for report in reports]
        if len({each.setting for each in series}) > 1:
            raise UsageError(
                f"{folder}: {name} was measured on several devices, or with several batches or "
                "types; use one folder for each"
            )
        runs = tuple(each.middle for each in series)
        found[name] = Series(name, runs, series[0].setting, processes=True)
    return found


def _read(path: Path) -> dict[str, Series]:
    try:
        checks = json.loads(path.read_text(encoding="utf-8"))["checks"]
        found = {series.name: series for check in checks for series in _series(check)}
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is not a report of `selfcheck bench --json` ({type(error).__name__}: {error})"
        ) from error
    if not found:
        raise UsageError(
            f"{path} does not contain throughputs; make it with `selfcheck bench --json`"
        )
    return found


def _series(check: Mapping[str, Any]) -> Iterator[Series]:
    seen = check["seen"]
    if check["name"].startswith("bench.") and isinstance(seen, dict):
        for kind, part in seen.items():
            if isinstance(part, dict) and part.get("runs"):
                setting = (seen.get("device"), seen.get("batch"), part.get("type"))
                yield Series(
                    f"{check['name']} {kind}",
                    tuple(map(float, filter(None, part["runs"]))),
                    setting,
                )


def compare(before: Mapping[str, Series], after: Mapping[str, Series]) -> list[Comparison]:
    """Compare what both reports have, in the order of the first; UsageError if nothing."""
    names = [name for name in before if name in after]
    if not names:
        raise UsageError("the two reports have no measurement in common")
    return [_compared(before[name], after[name]) for name in names]


def _compared(before: Series, after: Series) -> Comparison:
    noise = max(_FLOOR, _SPREADS * (before.spread + after.spread))
    alike = before.setting == after.setting
    return Comparison(before.name, before.middle, after.middle, noise, alike)
