"""The benchmark of publishing: legs from steps, what they are held against, what a step costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmark import lazy
from tests.benchmark.measure import NotMeasuredError
from tests.benchmark.place import Place, complete, stage_of
from tests.benchmark.publication import Draw
from tests.benchmark.publish.__main__ import earlier
from tests.benchmark.publish.cost import Cost, measured
from tests.benchmark.publish.plot import draw
from tests.benchmark.publish.report import Run, measurements, read_run
from wheelyard.fetching import wanted
from wheelyard.images.assemble.interpreter import interpreter_identity

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "docs" / "results"
ORPHAN = """
import os, sys
from pathlib import Path
from tests.benchmark.publish.cost import adopt_orphans, measured
adopt_orphans()
busy = 'import time\\nwhile time.process_time() < 0.3: pass\\nopen("done", "w")'
command = ["sh", "-c", f"({sys.executable} -c '{busy}' &); until test -e done; do sleep 0.1; done"]
cost = measured(command, Path(sys.argv[1], "log"), env=os.environ, cwd=Path(sys.argv[1]))
assert cost.cpu_seconds >= 0.25, cost
"""
# A build's pool outlives it: two sides that take as long, of which one lets an orphan work.
SIBLINGS = """
import os, subprocess, sys, time
from tests.benchmark.cold import clocked
from tests.benchmark.publish.cost import adopt_orphans
os.chdir(sys.argv[1])
adopt_orphans()
busy = 'import time\\nwhile time.process_time() < 0.3: pass\\nopen("done", "w")'
works = f"rm -f done; ({sys.executable} -c '{busy}' &); until test -e done; do sleep 0.1; done"
def take(command):
    start = time.perf_counter()
    subprocess.run(["sh", "-c", command], check=True)
    return time.perf_counter() - start
found = clocked(2, {"arm64": lambda: take(works), "amd64": lambda: take("sleep 0.3")})
seconds, used = found.values()
assert min(*seconds["arm64"], *seconds["amd64"], *used["arm64"]) > 0.25, found
assert max(used["amd64"]) < 0.2, found
"""


def step(way: str, image: str, phase: str, seconds: float, size: int = 0) -> Run:
    return Run("docker", way, image, phase, Cost(seconds, size, 1.0))


RUNS = [
    step("usual", "first", "build", 60), step("usual", "first", "push", 140, 3000),
    step("gzip", "first", "build", 16), step("gzip", "first", "push", 8, 3000),
    step("gzip", "next", "build", 5), step("gzip", "next", "push", 4, 1300),
    step("gzip", "first", "pull", 40, 3000),
]  # fmt: skip


def test_a_leg_is_the_sum_of_its_steps_beside_the_usual_way() -> None:
    found = {(x.way, x.image, x.leg): x for x in measurements(RUNS)}
    assert found["gzip", "first", "publish"].cost == Cost(24, 3000, 2.0)
    assert found["gzip", "first", "publish"].ratio == 0.12
    assert found["gzip", "first", "publish"].ok is True
    assert found["gzip", "next", "publish"].ratio is None  # the usual way was not measured
    assert found["gzip", "next", "publish"].share == pytest.approx(0.4333, abs=1e-4)
    assert found["gzip", "next", "publish"].ok is False
    assert ("gzip", "first", "start") not in found  # pulled, and no step trained


def test_a_step_survives_its_report_and_is_replaced_when_taken_again(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert earlier(report, RUNS) == []
    report.write_text(json.dumps({"runs": [run.as_json() for run in RUNS]}))
    assert [read_run(entry) for entry in json.loads(report.read_text())["runs"]] == RUNS
    assert earlier(report, [step("gzip", "first", "push", 9)]) == [*RUNS[:3], *RUNS[4:]]


def test_the_plot_has_a_bar_for_every_leg() -> None:
    measures = [result.as_json() for result in measurements(RUNS)]
    report = {"environment": {"processor": "A & B", "cores": 2}, "measures": measures}
    assert draw(report).count("<rect") == 1 + len(measures)  # and the background


def lazily(way: str, mbit: int, seconds: float, following: float | None = None) -> lazy.Run:
    marks = {"pulled": {"seconds": seconds, "bytes": 30}}
    after = {} if following is None else {"pulled": {"seconds": following, "bytes": 6}}
    what = {"way": way, "mbit": mbit, "size": 30, "load_before": [1.0, 1.0, 1.0]}
    return {**what, "marks": marks, "next": after}


def test_a_lazy_pull_stands_beside_the_dockerfile_on_the_same_line() -> None:
    runs = lazy.in_order([
        lazily("estargz", 100, 1, 2), lazily("usual", 100, 40), lazily("usual", 0, 8),
        lazily("partial", 0, 6, 1), lazily("gzip", 0, 4, 2),
    ])  # fmt: skip
    assert [(x["mbit"], x["way"]) for x in runs] == [
        (0, "usual"), (0, "gzip"), (0, "partial"), (100, "usual"), (100, "estargz"),
    ]  # fmt: skip
    told = [line.split() for line in lazy.table(runs)][1:]
    assert [(x[1], x[4], x[7:]) for x in told] == [
        ("usual", "first", ["1.00", "x", "100%"]),
        ("gzip", "first", ["0.50", "x", "100%"]), ("gzip", "next", ["0.25", "x", "20%"]),
        ("partial", "first", ["0.75", "x", "100%"]), ("partial", "next", ["0.12", "x", "20%"]),
        ("usual", "first", ["1.00", "x", "100%"]),
        ("estargz", "first", ["0.03", "x", "100%"]), ("estargz", "next", ["0.05", "x", "20%"]),
    ]  # fmt: skip
    report = {"environment": {"processor": "A", "cores": 2}, "runs": runs}
    assert lazy.draw(report).count("<rect") == 1 + len(told)


def test_what_was_not_run_beside_the_dockerfile_has_no_ratio(tmp_path: Path) -> None:
    runs = [lazily("usual", 0, 8), lazily("gzip", 100, 4)]
    assert "x" not in list(lazy.table(runs))[-1].split()
    report = tmp_path / "report.json"
    assert lazy.earlier(report) == []
    report.write_text(json.dumps({"runs": runs}))
    assert lazy.earlier(report) == runs


@pytest.mark.parametrize(("name", "draw"), [("bench-publish", draw), ("bench-lazy", lazy.draw)])
def test_the_committed_plot_shows_the_committed_numbers(name: str, draw: Draw) -> None:
    report = json.loads((RESULTS / f"{name}.json").read_text())
    assert (RESULTS / f"{name}.svg").read_text() == draw(report)


def test_what_an_orphan_used_is_counted(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ORPHAN, str(tmp_path)]
    subprocess.run(command, check=True, cwd=REPOSITORY)


def test_siblings_are_compared_by_processor_time_too(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", SIBLINGS, str(tmp_path)], check=True, cwd=REPOSITORY,
                   env={**os.environ, "PYTHONPATH": str(REPOSITORY)})  # fmt: skip


def test_a_step_that_fails_ends_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(NotMeasuredError, match="no such thing"):
        measured(
            ["sh", "-c", "echo no such thing; exit 3"],
            tmp_path / "log",
            env=os.environ,
            cwd=tmp_path,
        )


def test_what_is_measured_fetches_nothing(tmp_path: Path) -> None:
    """The interpreter alone is not enough: a missing wheel would be fetched under the clock."""
    place = Place(REPOSITORY, tmp_path, tmp_path)
    assert not complete(place)
    stage = stage_of(place)
    (tmp_path / "interpreters" / interpreter_identity(stage.compiling.packages)).mkdir(parents=True)
    assert not complete(place)
    for wheel in stage.lock.wheels:
        file = wanted.place(tmp_path / "files", wheel.sha256, wheel.filename)
        file.parent.mkdir(parents=True)
        with file.open("wb") as out:
            out.truncate(wheel.size)
    assert complete(place)
