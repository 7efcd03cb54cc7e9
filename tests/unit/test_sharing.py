"""What images share, by hand-made layers and by the committed matrix."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import planning
import pytest

from wheelyard.cli import main
from wheelyard.errors import SelectionError, UsageError
from wheelyard.images.assemble.planned import planned_layers
from wheelyard.images.build.sharing import Part, image_parts, measure, to_pull
from wheelyard.lock.stages import load_stages

ROOT = Path(__file__).parents[2]


def part(key: str, size: int, *sources: tuple[str, int]) -> Part:
    return Part(key, size, sources or ((key, size),))


BASE, CUDA, TORCH, OTHER = part("base", 10), part("cuda", 100), part("torch", 50), part("x", 5)


def nothing(_key: str) -> int | None:
    return None


def test_a_registry_keeps_a_blob_once_and_docker_once_a_chain() -> None:
    one, two = (BASE, CUDA, TORCH), (BASE, OTHER, CUDA, TORCH)
    sharing = measure([one, two], nothing)
    assert (sharing.images, sharing.total) == (2, 160 + 165)
    assert sharing.unique == sharing.bound == 165
    assert sharing.docker == 160 + 155  # all above `x` again, under another parent
    assert to_pull(two, one) == (5, 155)
    assert to_pull(one, one) == (0, 0)


def test_the_bound_counts_what_two_groups_hold_both() -> None:
    one = part("g1", 30, ("a", 10), ("b", 20))
    other = part("g2", 25, ("b", 20), ("c", 5))
    sharing = measure([(one,), (other,)], nothing)
    assert (sharing.unique, sharing.bound) == (55, 35)


def test_known_sizes_take_the_place_of_estimates() -> None:
    plan = planning.committed_plan()
    stages = load_stages(plan.cells[0], plan, ROOT)
    guessed = image_parts(stages, nothing)
    seen = image_parts(stages, lambda key: 7 if key == guessed[1].key else None)
    assert seen[1].size == 7
    assert sum(size for _, size in seen[1].sources) <= 7
    assert [p.key for p in seen] == [p.key for p in guessed]
    assert measure([seen], lambda key: 7 if key == guessed[1].key else None).known == 7


@pytest.mark.parametrize("image", [None, f"registry.example/python@sha256:{'a' * 64}"])
def test_the_layers_are_those_that_a_build_makes(image: str | None) -> None:
    """Also over a registry's image, which has an interpreter of its own and one layer of ours."""
    plan = planning.committed_plan()
    devel = next(cell for cell in plan.cells if cell.parent)
    stages = [
        replace(stage, cell=replace(stage.cell, base=replace(stage.cell.base, image=image)))
        for stage in load_stages(devel, plan, ROOT)
    ]
    parts = image_parts(stages, nothing)
    assert [part.key for part in parts[:-1]] == [layer.key for layer in planned_layers(stages)]
    assert all(part.size > 0 for part in parts)
    assert (parts[0].size < 10_000) == (image is not None)  # Debian's packages are not in it


def test_siblings_of_the_committed_matrix_share(capsys: pytest.CaptureFixture[str]) -> None:
    """The targets of the whole matrix; sizes are the locks', so that no cache has a say."""
    plan = planning.committed_plan()
    runtime = {
        cell.id: image_parts(load_stages(cell, plan, ROOT), nothing)
        for cell in plan.cells
        if cell.flavour.name == "runtime"
    }
    arm64 = {name: parts for name, parts in runtime.items() if name.endswith("-arm64")}
    assert len(arm64) >= 13
    amd64 = {name: parts for name, parts in runtime.items() if name not in arm64}
    for images in (runtime, amd64, arm64):
        sharing = measure(list(images.values()), nothing)
        assert sharing.unique <= 1.05 * sharing.bound
        assert sharing.unique <= 0.7 * sharing.total
    # Docker's classic store shares a layer only with all below it, and has one architecture's
    # images. JAX's share their base and the toolkit with PyTorch's there, up to cuRAND and
    # cuSPARSELt, which JAX does without.
    for images in (amd64, arm64):
        sharing = measure(list(images.values()), nothing)
        assert sharing.docker <= 1.36 * sharing.unique
        without = measure([parts for name, parts in images.items() if "jax" not in name], nothing)
        assert without.docker <= 1.25 * without.unique


def plan_command(tmp_path: Path, *arguments: str) -> int:
    return main(["--project", str(ROOT), "--cache-dir", str(tmp_path), "plan", *arguments])


def test_the_command_shows_totals_and_pulls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan_command(tmp_path, "cuda12.1", "--sharing", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(name, s["images"]) for name, s in found.items()] == [
        ("runtime", 4), ("devel", 4), ("together", 8),
    ]  # fmt: skip
    assert found["runtime"]["known"] == 0
    having = ("--sharing", "--having", "pytorch-2.3.1-runtime")
    assert plan_command(tmp_path, "cuda12.1-runtime", *having, "--json") == 0
    pulls = {item["id"]: item for item in json.loads(capsys.readouterr().out)}
    sibling = pulls["pytorch-2.2.2-cuda12.1-cudnn8.9-py3.11-runtime"]
    assert pulls["pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime"]["registry"] == 0
    assert 0 < sibling["registry"] < sibling["size"] / 2
    assert plan_command(tmp_path, "cuda12.1-runtime", *having) == 0
    assert "to pull by Docker" in capsys.readouterr().out
    assert plan_command(tmp_path, "cuda12.1", "--sharing") == 0
    assert "x bound" in capsys.readouterr().out


def test_columns_say_built_for_asks_for_and_ships(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan_command(tmp_path, "tensorflow-2.21-py3.11-runtime", "--json") == 0
    build, latest = json.loads(capsys.readouterr().out)
    assert build["built_for"] == latest["built_for"] == {"cuda": "12.5.1", "cudnn": "9"}
    assert build["asks_for"]["cuda"] == "<13.0,>=12.5.82"
    assert build["ships"]["cuda"] == "12.5.82"
    assert (build["policy"], latest["policy"]) == ("match-build", "upstream-latest")
    assert latest["ships"]["cuda"].startswith("12.9.")
    assert plan_command(tmp_path, "pytorch-tensorflow-2.20-py3.11-runtime") == 0
    assert "12.8 + 12.5.1 / - + 9" in capsys.readouterr().out


def test_a_driver_leaves_what_runs_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan_command(tmp_path, "all", "--driver", "550.54.14", "--json") == 0
    cells = json.loads(capsys.readouterr().out)
    assert {cell["cuda"].split(".")[0] for cell in cells} == {"12"}
    assert plan_command(tmp_path, "cuda13", "--driver", "550") == SelectionError.exit_code
    assert "550 is too old" in capsys.readouterr().err
    for wrong in (("--driver", "new"), ("--having", "x")):
        assert plan_command(tmp_path, *wrong) == UsageError.exit_code
