"""A small matrix and upstream facts that planning tests change to their needs."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from wheelyard.model import Plan
from wheelyard.planning.facts import Release, Upstream, make_release
from wheelyard.planning.matrix import load_matrix
from wheelyard.planning.matrix_model import Matrix
from wheelyard.planning.plan import load_inputs, make_plan

ROOT = Path(__file__).parents[2]
MATRIX: dict[str, Any] = {
    "version": 1,
    "axes": {
        "cuda": ["12.1"],
        "cudnn": ["8.9", "9.1"],
        "framework": ["pytorch 2.3.1", "pytorch 2.4.1"],
        "python": ["3.11"],
        "base": ["bookworm"],
        "flavour": ["runtime", "devel"],
    },
    "frameworks": {
        "pytorch": {
            "title": "PyTorch",
            "distribution": "torch",
            "constraints": [{"when": "<2.4", "require": "numpy<2", "reason": "ABI"}],
        },
        "tensorflow": {"title": "TensorFlow", "distribution": "tensorflow[and-cuda]"},
    },
    "cuda": {
        "12.1": {"constraints": [{"require": "nvidia-nvjitlink-cu12==12.1.*", "reason": "x"}]}
    },
    "bases": {
        "bookworm": {"suite": "bookworm", "python": "3.11"},
        "slim": {"suite": "bookworm", "python": "3.11"},
        "trixie": {"suite": "trixie", "python": "3.13"},
    },
    "flavours": {
        "runtime": {"description": "train", "packages": ["gcc", "tini"], "tools": ["pip"]},
        "devel": {
            "description": "develop",
            "extends": "runtime",
            "packages": ["git"],
            "tools": ["jupyterlab"],
        },
    },
}


def torch(version: str, cuda: str, cudnn: str, *pythons: str) -> Release:
    requires = {"nvidia-cuda-runtime-cu12": f"=={cuda}.90", "nvidia-cudnn-cu12": f"=={cudnn}"}
    return make_release(
        version, f"torch-{version}.whl", cuda, pythons or ("3.10", "3.11"), requires
    )


UPSTREAM: Upstream = {
    "pytorch": {
        "2.3.1": torch("2.3.1", "12.1", "8.9.2.26"),
        "2.4.1": torch("2.4.1", "12.1", "9.1.0.70"),
        "2.5.1": torch("2.5.1", "12.4", "9.1.0.70"),
        "2.9.1": torch("2.9.1", "12.8", "9.10.2.21", "3.11", "3.13"),
    },
    "tensorflow": {
        "2.20.0": make_release(
            "2.20.0",
            "tensorflow-2.20.0.whl",
            "12.5.1",
            ("3.11", "3.13"),
            {
                "nvidia-cuda-runtime-cu12": "<13.0,>=12.5.82",
                "nvidia-cudnn-cu12": "<10.0,>=9.3.0.75",
            },
        )
    },
}


def document(**changes: Any) -> dict[str, Any]:
    """The matrix with some sections replaced; `axes` is merged axis by axis."""
    data = copy.deepcopy(MATRIX)
    data["axes"] |= changes.pop("axes", {})
    return data | changes


def write(folder: Path, data: dict[str, Any] | str) -> Path:
    path = folder / "matrix.yaml"
    text = data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return path


def matrix(folder: Path, **changes: Any) -> Matrix:
    return load_matrix(write(folder, document(**changes)))


def plan(folder: Path, **changes: Any) -> Plan:
    return make_plan(matrix(folder, **changes), UPSTREAM)


def ids(made: Plan) -> list[str]:
    return [cell.id for cell in made.cells]


@cache
def committed() -> tuple[Matrix, Upstream, Plan]:
    """The committed matrix, facts and plan; planned once for all tests of a process."""
    return load_inputs(ROOT)


def committed_plan() -> Plan:
    return committed()[2]
