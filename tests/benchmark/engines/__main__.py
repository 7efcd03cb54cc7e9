"""`python -m tests.benchmark.engines`: one image in several ways, as ratios to `pip install`.

Each of Docker's image stores has its own pip; buildah has a store of its own and is compared with
pip in Docker's classic one. Every way starts with an empty engine that has the base, and with no
wheel in any cache (cold). It builds again (same), then a project with one more small tool
(changed), then, after its images and kept steps were removed but no cache, the first project once
more (warm). All it writes lies on a new disk. `reload` is no way to the image, but what the engine
needs to take it from an archive of its own: what `assemble`, warm, is to be held against.
"""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.benchmark.engines.disk import leave_the_mounts
from tests.benchmark.engines.plot import draw
from tests.benchmark.engines.projects import REPOSITORY, Project, as_committed, changed
from tests.benchmark.engines.report import COLUMNS, SCENARIOS, Run, measurements, read_run
from tests.benchmark.engines.stage import Stage, staged
from tests.benchmark.engines.stores import STORES, compared_in
from tests.benchmark.engines.ways import RELOAD, WAYS, Way
from tests.benchmark.environment import environment
from tests.benchmark.measure import NotMeasuredError, say
from tests.benchmark.place import Place
from tests.benchmark.publication import draw_again, publish, run_as_program
from tests.engines.daemons import temporary_folder
from wheelyard.errors import WheelyardError
from wheelyard.settings import Settings, load_settings

RESULT = REPOSITORY / "docs" / "results" / "bench-engines.json"
FAILURES = (
    NotMeasuredError, WheelyardError, OSError, AssertionError,
    pytest.fail.Exception,  # an engine that does not start
)  # fmt: skip
BOTH = "both"
REPEATED = ("pip", "docker", "assemble")  # cold once more at the end: downloads vary


@dataclass(frozen=True, slots=True)
class Taken:
    """What was measured."""

    runs: list[Run] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)  # why ways could not be measured
    file_systems: set[str] = field(default_factory=set)  # that they wrote to


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON and plot; 0, or with --strict 1 if a target is missed."""
    args = parse(argv)
    if args.plot:
        draw_again(args.output, draw)
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up, then, too
    leave_the_mounts()
    settings = load_settings({"project": str(REPOSITORY)})
    with temporary_folder(args.folder or settings.cache_dir) as folder:
        machine = environment(Place(REPOSITORY, settings.cache_dir, folder))
        taken = take(args, settings, folder)
    machine["file_system"] = "; ".join(sorted(taken.file_systems))
    runs = [*(earlier(args.output) if args.add else ()), *taken.runs]
    results = measurements(runs)
    is_good = publish(args.output, machine, runs, taken.failures, results, COLUMNS, draw)
    return 1 if not results or (args.strict and not is_good) else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    names = [way.name for way in WAYS]
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmark.engines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=names, metavar="WAY", default=names,
                        help=f"some of {', '.join(names)}")  # fmt: skip
    parser.add_argument("--store", choices=[*STORES, BOTH], default=BOTH,
                        help=f"Docker's image store (default: {BOTH})")  # fmt: skip
    parser.add_argument("--scenarios", nargs="+", choices=list(SCENARIOS), metavar="SCENARIO",
                        default=list(SCENARIOS),
                        help=f"cold, and some of {', '.join(SCENARIOS)}")  # fmt: skip
    parser.add_argument("--once", action="store_true", help="no second cold run")
    parser.add_argument(
        "--add",
        action="store_true",
        help="to the runs that the output holds: a way at a time, on one machine",
    )
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON; the plot beside it")
    parser.add_argument("--folder", type=Path, help="for up to 45 GB (default: the cache's folder)")
    parser.add_argument("--plot", action="store_true", help="only draw the plot again")
    parser.add_argument("--strict", action="store_true", help="a missed target is a failure")
    args = parser.parse_args(argv)
    if not chosen(args.only, args.store):
        parser.error(f"none of {', '.join(args.only)} is measured in that store")
    return args


def earlier(output: Path) -> list[Run]:
    """The runs of a report on disk."""
    return [read_run(entry) for entry in json.loads(output.read_text())["runs"]]


def take(args: argparse.Namespace, settings: Settings, folder: Path) -> Taken:
    """All runs; a way that fails does not stop the others."""
    project = as_committed(folder / "project")
    other = changed(project, folder / "changed")
    taken = Taken()
    places = chosen(args.only, args.store)
    rounds = [(way, store, args.scenarios) for way, store in places]
    if not args.once:
        rounds += [(way, store, ["cold"]) for way, store in places if way.name in REPEATED]
    for way, store, scenarios in rounds:
        try:
            with staged(way, store, project, settings, folder) as stage:
                taken.file_systems.add(stage.file_system)
                for run in whole(stage, project, other, scenarios):
                    taken.runs.append(run)  # at once: what fails later does not take it away
        except FAILURES as error:
            say(f"{way.name} in the {store} store was not measured: {error}")
            taken.failures[f"{way.name}, {store}"] = (str(error) or repr(error)).splitlines()[0]
    return taken


def chosen(names: Sequence[str], store: str) -> list[tuple[Way, str]]:
    """Ways of these names in the stores they are measured in; with BOTH in all of them."""
    return [
        (way, place)
        for reference in STORES
        if store in (reference, BOTH)
        for way in WAYS
        if way.name in names
        for place in way.stores
        if compared_in(place) == reference
    ]


def whole(
    stage: Stage, project: Project, other: Project, scenarios: Sequence[str]
) -> Iterator[Run]:
    """The scenarios, in the order in which they follow from each other; the first is needed."""
    if stage.way is RELOAD:  # there is nothing to fetch, and it knows one archive
        if "warm" in scenarios:
            stage.save_image(project)
            yield one(stage, "warm", project)
        return
    yield one(stage, "cold", project)
    if "same" in scenarios:
        yield one(stage, "same", project)
    if "changed" in scenarios:
        yield one(stage, "changed", other)
    if "warm" in scenarios:
        stage.forget_image()
        stage.provide_base(project)
        yield one(stage, "warm", project)


def one(stage: Stage, scenario: str, project: Project) -> Run:
    """One build, measured; its result is tried out."""
    sample = stage.measure(project)
    size = stage.image_bytes(project)
    say(f"  {stage.way.name}, {stage.store}, {scenario}: {sample.seconds:.1f} s")
    return Run(stage.store, stage.way.name, scenario, sample, size)


if __name__ == "__main__":
    run_as_program(main)
