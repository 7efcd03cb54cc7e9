"""Time the planning of a generated matrix of 10,000 cells: YAML text in, Plan out.

    python tests/benchmark/plan_cells.py [CELLS]

Prints one JSON object; `seconds` has a goal of 2.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from builder.matrix import load_matrix
from builder.plan import make_plan
from builder.upstream import Upstream, make_release

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


def measure(cells: int) -> dict[str, object]:
    """Generate, then time reading and planning together."""
    upstream = upstream_facts(cells // (len(PYTHONS) * len(FLAVOURS)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "matrix.yaml")
        path.write_text(matrix_text(upstream), encoding="utf-8")
        start = time.perf_counter()
        matrix = load_matrix(path)
        loaded = time.perf_counter()
        plan = make_plan(matrix, upstream)
        end = time.perf_counter()
    return {
        "benchmark": "plan",
        "cells": len(plan.cells),
        "excluded": len(plan.excluded),
        "seconds": round(end - start, 3),
        "seconds_reading": round(loaded - start, 3),
        "goal_seconds": 2,
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)))
