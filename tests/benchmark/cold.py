"""A build that knows the base and no layer of a wheel, beside the least that wheels can cost.

And an image for arm64 beside its sibling for amd64, neither of them with a base to make.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmark.known import into_new_folder
from tests.benchmark.measure import Measurement, interleaved, median, rounded, say, timed
from tests.benchmark.place import Place, build, prepared, read_once, record, wheel_files
from tests.benchmark.publish.cost import adopt_orphans, cpu_seconds
from wheelyard.errors import WheelyardError
from wheelyard.system.subprocesses import run

LIMIT, SIBLING_LIMIT = 1.5, 1.1
SIBLINGS = {"amd64": "pytorch:2.15.0", "arm64": "pytorch:2.15.0-arm64"}
KINDS = ("bytecode", "wheels")
FLOOR = "floor: read, inflate, hash twice, write"
WAYS: dict[str, tuple[str, ...]] = {
    "build, wheels on disk, no layer made yet": (),
    "the same, believing no record (--recompute)": ("--recompute",),
}


def measure(place: Place, runs: int | None) -> list[Measurement]:
    """The whole process of a build, by the seconds of the floor."""
    prepared(place)
    read_once(wheel_files(place))
    parts: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    sides = {way: partial(cold_run, place, parts[way], *WAYS[way]) for way in WAYS}
    values = interleaved(runs or 3, {FLOOR: partial(floor_run, place), **sides})
    split = _split(place)
    return [
        Measurement(
            "cold", way, median(values[way]), "seconds", FLOOR, median(values[FLOOR]), LIMIT,
            "ratio", {
                "build_runs": rounded(values[way]),
                "floor_runs": rounded(values[FLOOR]),
                "build_parts": parts[way],
                "only_this_not_made": split,
            },
        )
        for way in WAYS
    ]  # fmt: skip


def measure_siblings(place: Place, runs: int | None) -> list[Measurement]:
    """The whole process of arm64's build by amd64's: no layer of a wheel known, then every one.

    By the clock and by processor time, which other work on the machine changes less.
    """
    adopt_orphans()  # a build's pool outlives it by a moment, and what it used would be lost
    sides = {name: replace(place, image=image, dist=None) for name, image in SIBLINGS.items()}
    sizes = {
        name: sum(x["size"] for x in record(prepared(y))["layers"]) for name, y in sides.items()
    }
    for side in sides.values():
        read_once(wheel_files(side))
    parts: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    kinds: dict[str, tuple[int, dict[str, Callable[[], float]]]] = {
        "no layer of a wheel known": (
            runs or 3, {name: partial(cold_run, sides[name], parts[name]) for name in sides}
        ),
        "every layer known": (
            runs or 5, {name: partial(into_new_folder, sides[name]) for name in sides}
        ),
    }  # fmt: skip
    return [
        compared(what, clock, values, {"layers_bytes": sizes, "build_parts": parts})
        for what, (number, actions) in kinds.items()
        for clock, values in clocked(number, actions).items()
    ]


def clocked(
    runs: int, actions: Mapping[str, Callable[[], float]]
) -> dict[str, dict[str, list[float]]]:
    """Seconds that `actions` return, and the processor time of each with all that it starts."""
    used: dict[str, list[float]] = {name: [] for name in actions}

    def run_one(name: str) -> float:
        before = cpu_seconds()
        seconds = actions[name]()
        used[name].append(cpu_seconds() - before)
        return seconds

    values = interleaved(runs, {name: partial(run_one, name) for name in actions})
    return {"": values, "processor time of the ": used}


def compared(
    what: str, clock: str, values: Mapping[str, list[float]], details: Mapping[str, Any]
) -> Measurement:
    """arm64's median by amd64's."""
    return Measurement(
        "arm64", f"{clock}build of {SIBLINGS['arm64']}, {what}", median(values["arm64"]),
        "seconds", SIBLINGS["amd64"], median(values["amd64"]), SIBLING_LIMIT, "ratio",
        {"runs": {name: rounded(values[name]) for name in values}, **details},
    )  # fmt: skip


def floor_run(place: Place) -> float:
    """Seconds by the floor program's own clock: the start of Python is not part of the floor."""
    folder = place.new("floor")
    wheels = [str(path) for path in wheel_files(place)]
    command = [sys.executable, "-m", "tests.benchmark.floor", str(folder), *wheels]
    result = run(command, error=WheelyardError, what="the floor", cwd=place.project)
    shutil.rmtree(folder)
    return float(json.loads(result.stdout)["seconds"])


def cold_run(place: Place, parts: list[dict[str, float]], *options: str) -> float:
    """Seconds of the whole process; what build.json says of its parts goes to `parts`."""
    cache, output = place.new_cache(), place.new("output")
    seconds = timed(lambda: build(place, output, cache, *options))
    parts.append(record(output)["seconds"])
    shutil.rmtree(output)
    shutil.rmtree(cache)
    return seconds


def _split(place: Place) -> dict[str, float]:
    """Seconds of a build that lacks only one kind of layer, less those of one that lacks none."""
    cache, output = place.new_cache(), place.new("output")
    build(place, output, cache)
    known = timed(lambda: build(place, output, cache))
    seconds = {}
    for kind in KINDS:
        forget(cache, {x["digest"] for x in record(output)["layers"] if kind_of(x) == kind})
        seconds[kind] = round(timed(lambda: build(place, output, cache)) - known, 3)
        say(f"  only the layers of {kind} unknown: {seconds[kind]:.3f} s more")
    shutil.rmtree(output)
    shutil.rmtree(cache)
    return seconds


def kind_of(layer: dict[str, Any]) -> str:
    """What a layer of build.json is made of."""
    title = str(layer["title"])
    if title.startswith("Debian"):
        return "base"
    if title.startswith("bytecode"):
        return "bytecode"
    return "top" if title.startswith("selfcheck") else "wheels"


def forget(cache: Path, digests: set[str]) -> None:
    """Let the cache not know these layers."""
    for path in (cache / "layers").glob("*.json"):
        if path.name.endswith(".toc.json"):
            continue
        if json.loads(path.read_text())["layer"]["digest"] in digests:
            path.unlink()
