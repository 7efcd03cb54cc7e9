"""From matrix and upstream facts to cells, exclusions and problems."""

from __future__ import annotations

import argparse
import itertools
import json
import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any, cast

import planning
import pytest

from wheelyard.commands import plan as command
from wheelyard.console.tasks import Reporter
from wheelyard.context import Context
from wheelyard.errors import MatrixError, SelectionError, WheelyardError
from wheelyard.model import Plan
from wheelyard.planning.combine import Combination, identify_all
from wheelyard.planning.explain import explain
from wheelyard.planning.facts import Release, load_upstream, make_release
from wheelyard.planning.matrix import load_matrix
from wheelyard.planning.plan import make_plan
from wheelyard.settings import load_settings
from wheelyard.versions import order, short

ROOT = Path(__file__).parents[2]
RUNTIME = "pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime"
COMBINED = "pytorch 2.9.1 + tensorflow 2.20.0"
OVERRIDE = {
    "framework": "pytorch 2.3.1",
    "cuda": "12.1",
    "cudnn": "8.9.7",
    "python": "3.11",
    "base": "bookworm",
    "flavours": ["runtime", "devel"],
}


def failure(folder: Path, **changes: Any) -> str:
    with pytest.raises(MatrixError) as caught:
        planning.plan(folder, **changes)
    return str(caught.value)


def test_the_committed_matrix_has_every_minor_on_its_own_cuda() -> None:
    made = planning.committed_plan()
    facts = load_upstream()
    for name, since in (("pytorch", "2.1"), ("tensorflow", "2.15")):
        minors = {short(v) for v in facts[name] if order(v) >= order(since)}
        asked = {short(p.version) for c in made.cells for p in c.frameworks if p.name == name}
        assert asked == minors
    for cell in made.cells:
        assert ("numpy<2" in cell.constraints) == ("pytorch-2.1." in cell.id or "-2.2." in cell.id)
        if not cell.overrides and cell.policy == "match-build" and len(cell.frameworks) == 1:
            release = facts[cell.framework][cell.framework_version]
            assert (cell.cuda, cell.cudnn) == (short(release.cuda), short(release.cudnn))
            assert cell.python in release.pythons


def test_a_cell_in_full(tmp_path: Path) -> None:
    runtime, devel, *_ = planning.plan(tmp_path).cells
    assert runtime.id == RUNTIME
    assert runtime.requirements == ("torch==2.3.1", "pip")
    assert runtime.constraints == ("numpy<2", "nvidia-nvjitlink-cu12==12.1.*")
    assert runtime.parent is None
    assert devel.parent == runtime.id
    assert devel.flavour.packages == ("gcc", "git", "tini")
    assert devel.requirements == ("torch==2.3.1", "jupyterlab", "pip")
    with pytest.raises(FrozenInstanceError):
        devel.parent = None  # type: ignore[misc]


def test_what_upstream_does_not_ship_is_excluded_with_its_reason(tmp_path: Path) -> None:
    reasons = {item.id: item.reason for item in planning.plan(tmp_path).excluded}
    assert len(reasons) == 4
    excluded = "pytorch-2.4.1-cuda12.1-cudnn8.9-py3.11-devel"
    assert reasons[excluded] == "PyTorch 2.4.1 asks for cuDNN 9.1"


def test_every_combination_is_an_image_or_excluded() -> None:
    """A plan passes over what upstream does not ship; exclusions are found when asked for."""
    matrix, upstream, _ = planning.committed()
    made = make_plan(matrix, upstream)
    assert "excluded" not in vars(made)
    values = dict(matrix.axes)
    products = itertools.product(*(values[axis] for axis in Combination._fields))
    every = set(identify_all(matrix, itertools.starmap(Combination, products)))
    images = {cell.id for cell in made.cells}
    excluded = [item.id for item in made.excluded]
    assert len(every & images) > 80
    assert len(excluded) == len(set(excluded)) == len(every - images)
    assert set(excluded) == every - images
    assert pickle.loads(pickle.dumps(make_plan(matrix, upstream))).excluded == made.excluded


def test_a_bound_and_a_tool_may_be_one_flavours_alone(tmp_path: Path) -> None:
    data = planning.document()
    pytorch = data["frameworks"]["pytorch"]
    pytorch["constraints"] += [
        {"require": "pyarrow<26", "reason": "x", "flavour": "devel"},
        {"require": "fsspec<9", "reason": "x", "alone": True},
    ]
    pytorch["tools"] = {"devel": ["accelerate"]}
    cuda = {"12": {"tools": {"devel": ["nvcc"]}}, "13": {"tools": {"devel": ["other"]}}}
    bases = data["bases"] | {"bookworm": data["bases"]["bookworm"] | {"packages": ["python3.11"]}}
    changes = {"frameworks": data["frameworks"], "cuda": cuda, "bases": bases}
    runtime, devel, *_ = planning.plan(tmp_path, **changes).cells
    assert ("pyarrow<26" in runtime.constraints, "pyarrow<26" in devel.constraints) == (False, True)
    assert runtime.requirements == ("torch==2.3.1", "pip")
    assert devel.requirements == ("torch==2.3.1", "accelerate", "jupyterlab", "nvcc", "pip")
    assert runtime.flavour.packages == ("gcc", "python3.11", "tini")
    assert "fsspec<9" in runtime.constraints
    axes = {"framework": [COMBINED], "cuda": ["12.8"], "cudnn": ["9.10"], "flavour": ["runtime"]}
    (joined,) = planning.plan(tmp_path, frameworks=data["frameworks"], axes=axes).cells
    assert "fsspec<9" not in joined.constraints


def test_an_exclude_has_its_own_reason(tmp_path: Path) -> None:
    rule = {"when": {"framework": "pytorch 2.4", "flavour": ["devel"]}, "reason": "not wanted"}
    made = planning.plan(tmp_path, exclude=[rule])
    assert "pytorch-2.4.1-cuda12.1-cudnn9.1-py3.11-devel" not in planning.ids(made)
    assert "pytorch-2.4.1-cuda12.1-cudnn9.1-py3.11-runtime" in planning.ids(made)
    assert [item.reason for item in made.excluded].count("not wanted") == 2


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        (
            {"framework": ["pytorch 2.3.1", "pytorch 2.5.1"], "cudnn": ["8.9"]},
            "axes.framework[1]: no image uses pytorch 2.5.1: PyTorch 2.5.1 is built for CUDA 12.4, "
            "for CUDA 12.1 the newest is PyTorch 2.4.1",
        ),
        ({"cuda": ["12.1", "11.8"]}, "axes.cuda[1]: no image uses 11.8: PyTorch 2.3.1 is built"),
        ({"cudnn": ["8.9", "9.1", "9.5"]}, "axes.cudnn[2]: no image uses 9.5: PyTorch 2.3.1 asks"),
        ({"python": ["3.11", "3.13"]}, "axes.python[1]: no image uses 3.13: PyTorch 2.3.1 has no"),
        ({"base": ["bookworm", "trixie"]}, "no image uses trixie: trixie holds Python 3.13"),
        (
            {"framework": ["pytorch 2.3.1", "pytorch 2.3.9"]},
            "no upstream facts about PyTorch 2.3.9",
        ),
    ],
)
def test_an_axis_value_nobody_uses(tmp_path: Path, axes: dict[str, Any], says: str) -> None:
    assert says in failure(tmp_path, axes=axes)


def test_an_exclude_that_matches_nothing(tmp_path: Path) -> None:
    rule = {"when": {"cuda": "12.10"}, "reason": "never"}
    assert "exclude[0]: matches no combination" in failure(tmp_path, exclude=[rule])


def test_an_image_whose_lower_half_is_missing(tmp_path: Path) -> None:
    assert "is not in the plan; add that as well" in failure(tmp_path, axes={"flavour": ["devel"]})


def test_parents_come_first(tmp_path: Path) -> None:
    made = planning.ids(planning.plan(tmp_path, axes={"flavour": ["devel", "runtime"]}))
    assert made == planning.ids(planning.plan(tmp_path))


def test_another_cudnn_of_the_same_major(tmp_path: Path) -> None:
    made = planning.plan(tmp_path, include=[OVERRIDE])
    cell = made.cells[-2]
    assert cell.id == "pytorch-2.3.1-cuda12.1-cudnn8.9.7-py3.11-runtime"
    assert cell.overrides == ("nvidia-cudnn-cu12==8.9.7.*",)
    assert not [line for line in cell.constraints if "cudnn" in line]
    assert cell.tags == ("pytorch:2.3.1-cuda12.1-cudnn8.9.7-py3.11",)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cudnn": "9.1"}, "PyTorch 2.3.1 requires cuDNN 8.9; cuDNN 9.1 is another major version"),
        ({"cuda": "12.4"}, "PyTorch 2.3.1 is built for CUDA 12.1, for CUDA 12.4 the newest is"),
        ({"framework": "pytorch 2.0.0"}, "no upstream facts about PyTorch 2.0.0"),
        ({"cudnn": "8.9"}, "is already in the plan"),
        (
            {"flavours": ["devel"]},
            "extends pytorch-2.3.1-cuda12.1-cudnn8.9.7-py3.11-runtime, which",
        ),
    ],
)
def test_includes_that_cannot_be(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    found = failure(tmp_path, include=[{**OVERRIDE, **change}])
    assert "include[0]: " in found
    assert says in found


def test_frameworks_combined_on_one_cuda_set(tmp_path: Path) -> None:
    axes = {"framework": [COMBINED], "cuda": ["12.8"], "cudnn": ["9.10"], "flavour": ["runtime"]}
    (cell,) = planning.plan(tmp_path, axes=axes).cells
    assert cell.id == "pytorch-2.9.1-tensorflow-2.20.0-cuda12.8-cudnn9.10-py3.11-runtime"
    assert cell.tags[0] == "pytorch-tensorflow:2.9.1-2.20.0-cuda12.8-cudnn9.10-py3.11"
    assert cell.requirements[:2] == ("torch==2.9.1", "tensorflow[and-cuda]==2.20.0")
    assert cell.constraints == ()  # torch pins what TensorFlow leaves open


def test_match_build_pins_a_range_to_what_the_build_was_made_with(tmp_path: Path) -> None:
    axes = {"framework": ["tensorflow 2.20.0"], "cuda": ["12.5"], "cudnn": ["9.3"]}
    cell = planning.plan(tmp_path, axes=axes).cells[0]
    assert cell.constraints == ("nvidia-cuda-runtime-cu12==12.5.82", "nvidia-cudnn-cu12==9.3.0.75")
    assert (cell.policy, cell.built_for) == ("match-build", ())


def test_upstream_latest_lets_the_rest_of_a_range_float(tmp_path: Path) -> None:
    axes = {"framework": ["tensorflow 2.20.0"], "cuda": ["12.9"], "cudnn": ["9.28"]}
    cell = planning.plan(tmp_path, axes=axes, policy="upstream-latest").cells[0]
    assert cell.constraints == ("nvidia-cuda-runtime-cu12==12.9.*", "nvidia-cudnn-cu12==9.28.*")
    assert cell.built_for == (("tensorflow", "12.5.1"),)


@pytest.mark.parametrize(
    ("cuda", "cudnn", "says"),
    [
        ("12.9", "9.3", "is built for CUDA 12.5 and allows <13.0,>=12.5.82; policy match-build"),
        ("12.5", "9.28", "policy match-build takes 9.3, an include with upstream-latest another"),
    ],
)
def test_match_build_refuses_what_only_a_range_allows(
    tmp_path: Path, cuda: str, cudnn: str, says: str
) -> None:
    axes = {"framework": ["tensorflow 2.20.0"], "cuda": ["12.5"], "cudnn": ["9.3"]}
    entry = OVERRIDE | {"framework": "tensorflow 2.20.0", "cuda": cuda, "cudnn": cudnn}
    assert says in failure(tmp_path, axes=axes, include=[entry])
    entry["policy"] = "upstream-latest"
    assert planning.plan(tmp_path, axes=axes, include=[entry]).cells[-1].cuda == cuda


def jax(major: str, cuda: str, nvcc: str) -> Release:
    suffix = "-cu12" if major == "12" else ""
    requires = {
        f"nvidia-cublas{suffix}": ">=12.1.3.1",
        f"nvidia-cuda-nvcc{suffix}": f">={nvcc}",
        f"nvidia-cuda-runtime{suffix}": f">={major}.0.1",
        f"nvidia-cudnn-cu{major}": "<10.0,>=9.8",
        f"nvidia-nvjitlink{suffix}": f">={major}.0.39",
    }
    return make_release("0.12.0", f"jax_cuda{major}_plugin.whl", cuda, ("3.11",), requires)


JAX = {
    **planning.UPSTREAM,
    "jax-cuda12": {"0.12.0": jax("12", "12.9", "12.6.85")},
    "jax-cuda13": {"0.12.0": jax("13", "13.0", "13.0.48")},
}


def jax_plan(folder: Path, cuda: str, framework: str = "jax 0.12.0", cudnn: str = "9.10") -> Plan:
    bound = {"require": "nvidia-nccl-cu12<3", "reason": "x", "cuda": "12"}
    entry = {"title": "JAX", "distribution": "jax", "policy": "follow-cuda", "constraints": [bound]}
    data = planning.document(
        axes={"framework": [framework], "cuda": [cuda], "cudnn": [cudnn]},
        frameworks=planning.MATRIX["frameworks"] | {"jax": entry}, cuda={},
    )  # fmt: skip
    return make_plan(load_matrix(planning.write(folder, data)), JAX)


def test_a_framework_that_follows_the_cuda_of_the_cell(tmp_path: Path) -> None:
    """Its ranges have no upper end: the toolkit and all that is numbered like it are held."""
    cell = jax_plan(tmp_path, "12.8").cells[0]
    assert (cell.policy, cell.requirements[0]) == ("follow-cuda", "jax[cuda12]==0.12.0")
    assert cell.constraints == (
        "cuda-toolkit==12.8.*",
        "nvidia-cuda-nvcc-cu12==12.8.*",
        "nvidia-cuda-runtime-cu12==12.8.*",
        "nvidia-cudnn-cu12==9.10.*",
        "nvidia-nccl-cu12<3",
        "nvidia-nvjitlink-cu12==12.8.*",
    )
    assert cell.built_for == (("jax", "12.9"),)


def test_each_cuda_major_has_its_plugin(tmp_path: Path) -> None:
    cell = jax_plan(tmp_path, "13.2").cells[0]
    assert cell.requirements[0] == "jax[cuda13]==0.12.0"
    assert "nvidia-cudnn-cu13==9.10.*" in cell.constraints
    assert "nvidia-nccl-cu12<3" not in cell.constraints
    assert cell.tags[0] == "jax:0.12.0-cuda13.2-cudnn9.10-py3.11"


@pytest.mark.parametrize(
    ("cuda", "says"),
    [
        ("11.8", "JAX 0.12.0: it has plugins for CUDA 12 and 13 only"),
        ("12.4", "JAX 0.12.0 is built for CUDA 12.9"),  # its nvcc is 12.6's, or newer
    ],
)
def test_a_cuda_that_its_parts_do_not_allow(tmp_path: Path, cuda: str, says: str) -> None:
    with pytest.raises(MatrixError, match=says):
        jax_plan(tmp_path, cuda)


def test_beside_a_framework_with_pins_the_rest_follows(tmp_path: Path) -> None:
    cell = jax_plan(tmp_path, "12.8", "pytorch 2.9.1 + jax 0.12.0").cells[0]
    assert cell.policy == "follow-cuda"
    assert "nvidia-cuda-nvcc-cu12==12.8.*" in cell.constraints
    assert "nvidia-cuda-runtime-cu12==12.8.*" not in cell.constraints  # PyTorch pins it


def test_bases_other_than_the_default_are_named(tmp_path: Path) -> None:
    made = planning.plan(tmp_path, axes={"base": ["bookworm", "slim"]})
    assert RUNTIME in planning.ids(made)
    slim = next(cell for cell in made.cells if cell.base.name == "slim")
    assert slim.id == "pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-slim-runtime"
    assert slim.tags == ("pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11-slim",)
    assert not slim.default_base


def test_each_base_serves_its_own_python(tmp_path: Path) -> None:
    axes = {
        "framework": ["pytorch 2.9.1"],
        "cuda": ["12.8"],
        "cudnn": ["9.10"],
        "python": ["3.11", "3.13"],
        "base": ["bookworm", "trixie"],
        "flavour": ["runtime"],
    }
    made = planning.plan(tmp_path, axes=axes)
    assert [(cell.python, cell.base.name) for cell in made.cells] == [
        ("3.11", "bookworm"),
        ("3.13", "trixie"),
    ]


def test_ids_do_not_depend_on_other_cells(tmp_path: Path) -> None:
    alone = planning.plan(tmp_path, axes={"framework": ["pytorch 2.3.1"], "cudnn": ["8.9"]})
    assert set(planning.ids(alone)) < set(planning.ids(planning.plan(tmp_path)))


def test_planning_is_pure(tmp_path: Path) -> None:
    matrix = planning.matrix(tmp_path)
    assert make_plan(matrix, planning.UPSTREAM) == make_plan(matrix, planning.UPSTREAM)


def committed(name: str) -> str:
    return explain(*planning.committed(), name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (RUNTIME, "nvidia-nvjitlink-cu12==12.1.*: torch 2.1 to 2.4 leave nvJitLink open"),
        ("pytorch:latest", "pytorch-2.15.0-cuda13.2-cudnn9.26-py3.13-runtime is in the plan"),
        ("pytorch-2.4.1-cuda12.1-cudnn8.9-py3.11-devel", "excluded: PyTorch 2.4.1 asks for cuDNN"),
        ("pytorch-2.5.1-cuda12.1", "PyTorch 2.5.1 is built for CUDA 12.4"),
        ("pytorch-2.5.1-cuda12.1", "for CUDA 12.1 the newest is PyTorch 2.4.1"),
        ("pytorch-2.3.1-py3.13", "PyTorch 2.3.1 has no wheel for Python 3.13"),
        ("pytorch-2.1.0", "upstream ships it, the matrix does not request it"),
        ("pytorch-2.3", f"as a selector it means: {RUNTIME}"),
        ("pytorch-2.4.1-cudnn8.9", "asks for cuDNN 9.1"),
        ("pytorch-2.999", "there are no upstream facts about PyTorch 2.999"),
        ("pytorch-2.3.1-py3.13", "for Python 3.13 the oldest is PyTorch 2.5.0, the newest 2.15.0"),
        ("pytorch-2.3.1-py3.99", "no release of PyTorch has a wheel for Python 3.99"),
        ("tensorflow-2.15.0-cuda12.1", "TensorFlow 2.15.0 is built for CUDA 12.2"),
        ("tensorflow-2.15.0-cuda12.1", "for CUDA 12.1 there is no TensorFlow"),
        ("pytorch-2.3.1-cpu", "PyTorch 2.3.1 is built for CUDA 12.1"),
        ("pytorch:latest", "compiled for sm_75, sm_80"),
        ("pytorch-2.3.1-cuda12.1-cudnn8.9.7-py3.11-runtime", "in place of upstream's nvidia-cudnn"),
    ],
)
def test_explain(name: str, says: str) -> None:
    assert says in committed(name)


def test_explain_an_override_by_its_pin(tmp_path: Path) -> None:
    matrix = planning.matrix(tmp_path, include=[OVERRIDE])
    made = make_plan(matrix, planning.UPSTREAM)
    text = explain(matrix, planning.UPSTREAM, made, made.cells[-1].id)
    assert "in place of upstream's nvidia-cudnn-cu12==8.9.2.26" in text


@pytest.mark.parametrize(
    ("name", "driver", "says"),
    [
        ("pytorch:latest", "550.54.14", "CUDA 13.2 needs driver 580.65.06 or newer; 550.54.14 is"),
        ("pytorch:latest", "550.54.14", "the newest of pytorch is pytorch:2.10.0-cuda12.8"),
        ("pytorch-2.14.1-cuda13.0", "525.60.13", "525.60.13 is too old"),
        ("pytorch-2.15.0", "535.104", "CUDA 13.2 needs driver 580.65.06 or newer; 535.104 is"),
        ("pytorch:latest", "450.80.02", "no image of pytorch runs on driver 450.80.02"),
    ],
)
def test_explain_a_driver_that_is_too_old(name: str, driver: str, says: str) -> None:
    assert says in explain(*planning.committed(), name, driver)
    assert "too old" not in explain(*planning.committed(), name, "999.0")


@pytest.mark.parametrize(("name", "says"), [("banana", "unknown: banana"), ("cuda12.1", "several")])
def test_explain_says_when_there_is_nothing_to_explain(name: str, says: str) -> None:
    with pytest.raises(SelectionError, match=says):
        committed(name)


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(arguments)
    settings = load_settings({"project": str(ROOT)})
    return command.run(args, Context(settings, cast(Reporter, None)))


def test_json_has_what_programs_need(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("2.3.1-devel", "--json") == 0
    (cell,) = json.loads(capsys.readouterr().out)
    assert cell["id"] == RUNTIME.replace("runtime", "devel")
    assert cell["lock"] == f"images/{cell['id']}/requirements.lock"
    assert cell["parent"] == RUNTIME
    assert {key: cell[key] for key in ("framework", "framework_version", "cuda", "cudnn")} == {
        "framework": "pytorch",
        "framework_version": "2.3.1",
        "cuda": "12.1",
        "cudnn": "8.9",
    }
    assert (cell["python"], cell["flavour"], cell["base"]) == ("3.11", "devel", "bookworm")
    assert cell["tags"][0] == "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11-devel"


def test_table_has_a_row_for_each_image(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("cuda12.1") == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 9
    assert any(row.startswith(RUNTIME) and "pytorch:2.3" in row for row in rows)


def test_explain_prints_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--explain", "pytorch-2.5.1-cuda12.1") == 0
    assert "2.4.1" in capsys.readouterr().out


def test_damaged_facts_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "upstream.json"
    for text in ("{", "[]", '{"pytorch": {"2.3.1": {}}}', '{"pytorch": {"2.3.1": {"pythons": 3}}}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(WheelyardError, match="upstream facts cannot be read"):
            load_upstream(path)
