"""Planning a generated matrix of 10,000 cells, and listing its locked images as JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmark.measure import Measurement, interleaved, median, rounded, timed
from tests.benchmark.place import Place
from wheelyard.commands.plan import run
from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.lock.lockfile import render_requirements_lock
from wheelyard.model import LockedWheel, RequirementsLock
from wheelyard.planning.facts import Upstream, dump_upstream, make_release
from wheelyard.planning.matrix import load_matrix
from wheelyard.planning.plan import load_plan, make_plan
from wheelyard.settings import load_settings

CELLS = 10_000
LIMIT = 2.0  # seconds
LISTED = 2_000
PINS = 100  # of each listed image's lock
LISTING_LIMIT = 4.0  # times the planning that is a part of it
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
FLAVOURS = ("runtime", "devel")


def upstream_facts(releases: int) -> Upstream:
    """Make up a framework whose releases each ship every Python."""
    made = (
        make_release(
            f"{number // 100}.{number % 100}.0", "made-up.whl", "12.1", PYTHONS,
            {"nvidia-cuda-runtime-cu12": "==12.1.105", "nvidia-cudnn-cu12": "==8.9.2.26"},
        )
        for number in range(100, 100 + releases)
    )  # fmt: skip
    return {"pytorch": {release.version: release for release in made}}


def matrix_text(upstream: Upstream) -> str:
    """Write a matrix that asks for every release on every Python, each with its own base."""
    data = {
        "version": 1,
        "axes": {
            "cuda": ["12.1"],
            "cudnn": ["8.9"],
            "framework": [f"pytorch {version}" for version in upstream["pytorch"]],
            "python": PYTHONS,
            "base": [f"base{number}" for number in range(len(PYTHONS))],
            "flavour": FLAVOURS,
        },
        "frameworks": {
            "pytorch": {
                "title": "PyTorch",
                "distribution": "torch",
                "constraints": [{"when": "<2.3", "require": "numpy<2", "reason": "ABI"}],
            }
        },
        "bases": {
            f"base{number}": {"suite": "made-up", "python": python}
            for number, python in enumerate(PYTHONS)
        },
        "flavours": {
            "runtime": {"description": "train", "packages": ["gcc"], "tools": ["pip"]},
            "devel": {"description": "more", "extends": "runtime", "tools": ["jupyterlab"]},
        },
    }
    return json.dumps(data, indent=1)  # JSON is YAML


def measure(_place: Place, runs: int | None) -> list[Measurement]:
    """Reading and planning together, beside a tenth of the cells: a ratio of 10 is linear."""
    with tempfile.TemporaryDirectory() as folder:
        values = interleaved(
            runs or 5,
            {
                "all": planner(CELLS, Path(folder)),
                "a tenth": planner(CELLS // 10, Path(folder)),
                **listing(LISTED, Path(folder, "locked")),
            },
        )
    return [
        Measurement(
            "planning", f"planning a matrix of {CELLS} cells", median(values["all"]), "seconds",
            "a tenth of the cells", median(values["a tenth"]), LIMIT,
            details={"runs": rounded(values["all"])},
        ),
        Measurement(
            "listing", f"`plan --json` of {LISTED} locked images", median(values["listing"]),
            "seconds", "planning them", median(values["planning"]), LISTING_LIMIT, "ratio",
            details={"runs": rounded(values["listing"])},
        ),
    ]  # fmt: skip


def listing(cells: int, project: Path) -> dict[str, Callable[[], float]]:
    """Two things to time: `plan --json` of a project with all its locks, and its planning alone."""
    upstream = upstream_facts(cells // (len(PYTHONS) * len(FLAVOURS)))
    project.mkdir()
    (project / "matrix.yaml").write_text(matrix_text(upstream), encoding="utf-8")
    (project / "upstream.json").write_text(dump_upstream(upstream), encoding="utf-8")
    wheels = tuple(
        LockedWheel(f"package-{number}", "1.0", f"package_{number}-1.0-any.whl", "0" * 64, 1)
        for number in range(PINS)
    )
    for cell in load_plan(project).cells:
        lock = project / cell.lock
        lock.parent.mkdir(parents=True)
        lock.write_text(render_requirements_lock(RequirementsLock(cell.id, "0" * 64, wheels)))
    names = {"selector": "all", "json": True, "explain": None, "sharing": False}
    args = argparse.Namespace(**names, having=None, driver=None)
    context = Context(load_settings({"project": str(project)}, {}), QuietReporter(None))

    def as_json() -> None:
        with Path("/dev/null").open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            run(args, context)

    return {
        "listing": lambda: timed(as_json),
        "planning": lambda: timed(lambda: load_plan(project)),
    }


def planner(cells: int, folder: Path) -> Callable[[], float]:
    """Something to call that plans a matrix of `cells` cells and returns its seconds."""
    upstream = upstream_facts(cells // (len(PYTHONS) * len(FLAVOURS)))
    path = folder / f"{cells}.yaml"
    path.write_text(matrix_text(upstream), encoding="utf-8")

    def plan() -> float:
        start = time.perf_counter()
        made = make_plan(load_matrix(path), upstream)
        seconds = time.perf_counter() - start
        if len(made.cells) != cells:
            raise AssertionError(f"the generated matrix has {len(made.cells)} cells, not {cells}")
        return seconds

    return plan
