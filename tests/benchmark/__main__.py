"""`python -m tests.benchmark`: measure, print a table, write environment and numbers as JSON."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.benchmark import cold, importing, known, memory, planning, proving, sharing, size
from tests.benchmark.environment import environment
from tests.benchmark.measure import Measurement, NotMeasuredError, say
from tests.benchmark.place import IMAGE, Place
from tests.benchmark.publication import run_as_program
from wheelyard.console.table import show_json, show_table
from wheelyard.errors import WheelyardError
from wheelyard.settings import load_settings
from wheelyard.system.textfiles import write_text

PROJECT = Path(__file__).parents[2]
RESULT = PROJECT / "docs" / "results" / "bench.json"
MEASURES: dict[str, Callable[[Place, int | None], list[Measurement]]] = {
    "cold": cold.measure,
    "arm64": cold.measure_siblings,
    "known": known.measure,
    "memory": memory.measure,
    "sharing": sharing.measure,
    "import": importing.measure,
    "planning": planning.measure,
    "selfcheck": proving.measure,
    "size": size.measure,
}
ON_REQUEST = ("arm64",)  # two images of 3 GB more, whose wheels may have to be fetched
COLUMNS = ("measure", "value", "compared with", "ratio", "wanted", "")


@dataclass(frozen=True, slots=True)
class Missing:
    """A measure that could not be taken, and why."""

    name: str
    reason: str


def main(argv: Sequence[str] | None = None) -> int:
    """Run the measures; 0, or with --strict 1 if a target was missed or not measured."""
    args = parse(argv)
    with scratch(args) as place:
        machine = environment(place)
        results = [x for name in chosen(args) for x in take(name, place, args.runs)]
    report = {
        "version": 1,
        "environment": {**machine, "load_after": list(os.getloadavg())},
        "measures": [as_json(result) for result in results],
    }
    # A part of the measures does not replace a whole result.
    if output := args.output or (None if args.only else RESULT):
        write_text(output, json.dumps(report, indent=1) + "\n")
    if args.json:
        show_json(report)
    else:
        show_table(COLUMNS, [row(result) for result in results])
    return 1 if args.strict and not all(map(good, results)) else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=MEASURES, metavar="NAME",
                        help=f"some of {', '.join(MEASURES)} (default: all but arm64)")  # fmt: skip
    parser.add_argument("--runs", type=int, help="runs of each side (default: each measure's own)")
    parser.add_argument("--json", action="store_true", help="print the report, not a table")
    parser.add_argument(
        "--output", type=Path, help="file for the report (default: docs/results/bench.json)"
    )
    parser.add_argument("--folder", type=Path, help="for some 20 GB (default: the cache's folder)")
    parser.add_argument("--image", default=IMAGE, metavar="SELECTOR",
                        help=f"the one image that is measured (default: {IMAGE})")  # fmt: skip
    parser.add_argument("--dist", type=Path, help="layout that holds it already (default: build)")
    parser.add_argument("--keep", action="store_true", help="leave what was made in that folder")
    parser.add_argument("--strict", action="store_true", help="a missed target is a failure")
    args = parser.parse_args(argv)
    if args.runs is not None and args.runs < 1:
        parser.error("--runs must be at least 1")
    return args


def chosen(args: argparse.Namespace) -> Sequence[str]:
    """The measures to take."""
    return args.only or [name for name in MEASURES if name not in ON_REQUEST]


@contextmanager
def scratch(args: argparse.Namespace) -> Iterator[Place]:
    """A place that is gone afterwards."""
    cache = load_settings({}, cwd=PROJECT).cache_dir
    parent = args.folder or cache
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent)).absolute()
    try:
        yield Place(PROJECT, cache, folder, args.image, args.dist and args.dist.absolute())
    finally:
        if args.keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder)


def take(name: str, place: Place, runs: int | None) -> list[Measurement | Missing]:
    """One measure's results; what stops it does not stop the others."""
    say(f"{name} ...")
    try:
        return list(MEASURES[name](place, runs))
    except (NotMeasuredError, WheelyardError, OSError) as error:
        say(f"{name} was not measured: {error}")
        return [Missing(name, str(error))]


def good(result: Measurement | Missing) -> bool:
    """Measured, and no target missed."""
    return isinstance(result, Measurement) and result.ok is not False


def row(result: Measurement | Missing) -> Sequence[str]:
    """A line of the table."""
    if isinstance(result, Missing):
        return (result.name, "-", "-", "-", "-", "not measured")
    verdict = {True: "ok", False: "MISSED", None: ""}[result.ok]
    partner = f"{result.compared_with}: {result.show(result.reference)}"
    return (result.what, result.show(result.value), partner, f"{result.ratio:.3g}", result.wanted,
            verdict)  # fmt: skip


def as_json(result: Measurement | Missing) -> dict[str, Any]:
    """An entry of the report; seconds or bytes as `unit` says."""
    if isinstance(result, Missing):
        return {"name": result.name, "not_measured": result.reason}
    return {**asdict(result), "ratio": round(result.ratio, 4), "ok": result.ok}


if __name__ == "__main__":
    run_as_program(main)
