"""What Dockerfiles do step by step, and which steps docker-bake.json shares between images."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import planning
import pytest
from locking import runtime_cell
from test_recipe import CELL, RUNTIME, wheel

from wheelyard.dockerfiles.bake import needed_targets
from wheelyard.model import LockedDeb, LockedWheel, PackageLock, RequirementsLock
from wheelyard.rendering.bakefile import native_target, target_name
from wheelyard.rendering.render import render_all
from wheelyard.rendering.steps import Locks, PackageStep, WheelStep, make_steps
from wheelyard.system.templates import make_environment

ROOT = Path(__file__).parents[2]
BAKE: dict[str, Any] = json.loads((ROOT / "docker-bake.json").read_text())


def deb(name: str) -> LockedDeb:
    return LockedDeb(name, "1:2.0", "amd64", name.ljust(64, "0"), 1, "debian", f"pool/{name}.deb")


def locks(wheels: list[LockedWheel], debs: list[str], flavour: str) -> Locks:
    packages = PackageLock("bookworm", flavour, "bookworm", "0" * 64, tuple(map(deb, debs)))
    return Locks(RequirementsLock("x", "0" * 64, tuple(wheels)), packages)


def test_steps_go_from_what_is_shared_most_to_what_is_shared_least() -> None:
    below = locks(RUNTIME, ["tini"], "runtime")
    above = locks([*RUNTIME, wheel("jupyterlab")], ["git", "tini"], "devel")
    steps = make_steps(CELL, [below, above])
    assert [step.stage for step in steps] == [
        "cuda", "cudnn", "framework", "devel-packages", "devel-tools",
    ]  # fmt: skip
    cuda, cudnn, framework, packages, tools = steps
    assert isinstance(cuda, WheelStep)
    assert cuda.compiled == ()
    assert {w.name for w in cuda.wheels} == {"nvidia-cuda-runtime-cu12", "nvidia-cublas-cu12"}
    assert isinstance(cudnn, WheelStep)
    assert [w.name for w in cudnn.wheels] == ["nvidia-cudnn-cu12"]
    assert isinstance(framework, WheelStep)
    assert {"torch", "triton", "numpy", "nvidia-ml-py"} <= {w.name for w in framework.compiled}
    assert isinstance(packages, PackageStep)
    assert [d.name for d in packages.packages] == ["git"]
    assert isinstance(tools, WheelStep)
    assert [w.name for w in tools.wheels] == ["jupyterlab"]
    asked = [w for step in steps if isinstance(step, WheelStep) for w in step.wheels]
    assert sorted(w.name for w in asked) == sorted(w.name for w in above.wheels.wheels)


def test_an_image_without_cuda_has_one_step_of_wheels() -> None:
    (step,) = make_steps(CELL, [locks([wheel("torch", 200), wheel("numpy")], [], "runtime")])
    assert step.stage == "framework"


@pytest.mark.parametrize("name", BAKE["target"])
def test_every_target_of_the_bake_file_can_be_built(name: str) -> None:
    target = BAKE["target"][name]
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", name)
    if "inherits" in target:
        (inherited,) = target["inherits"]
        for end in ("", "-arm64"):
            assert f"{inherited.removesuffix('${MACHINE}')}{end}" in BAKE["target"]
        return
    text = (ROOT / target["context"] / target.get("dockerfile", "Dockerfile")).read_text()
    for stage, source in target.get("contexts", {}).items():
        assert source.removeprefix("target:") in BAKE["target"]
        # A stage of that name, or the image that the stages start from.
        assert f" AS {stage}\n" in text or f"\nARG BASE={stage}\nFROM ${{BASE}} AS base\n" in text
    if "target" in target:
        assert f" AS {target['target']}\n" in text


def test_every_image_is_a_target_with_its_tags_and_labels() -> None:
    names = BAKE["group"]["default"]["targets"]
    tags = [BAKE["target"][name]["tags"] for name in names]
    assert sorted(tags) == sorted(list(cell.tags) for cell in planning.committed_plan().cells)
    for name in names:
        assert "wheelyard.cell" in BAKE["target"][name]["labels"]
        architecture = "arm64" if name.endswith("-arm64") else "amd64"
        assert BAKE["target"][name]["platforms"] == [f"linux/{architecture}"]


def test_an_image_for_several_processors_is_a_target_under_the_tags_of_their_index() -> None:
    found = {x: y for x, y in BAKE["target"].items() if "inherits" in y}
    shared = {
        native_target(cell): list(cell.shared_tags)
        for cell in planning.committed_plan().cells
        if cell.tags == cell.shared_tags
    }
    assert {name: target["tags"] for name, target in found.items()} == shared
    assert len(shared) >= 26
    assert BAKE["variable"]["MACHINE"]["default"] == (
        '${lookup({arm64 = "-arm64"}, split("/", BAKE_LOCAL_PLATFORM)[1], "")}'
    )
    assert not set(found) & set(BAKE["group"]["default"]["targets"])
    assert native_target(runtime_cell()) == target_name(runtime_cell().id)  # amd64 alone


def test_images_that_share_a_cuda_set_share_its_target() -> None:
    def needed(image: str) -> set[str]:
        found = set(needed_targets(BAKE["target"], image)) - {image}
        assert "base-bookworm-runtime" in found
        return found - {"base-bookworm-runtime"}

    end = "-cuda12_1-cudnn8_9-py3_11-"
    runtime, devel = needed(f"pytorch-2_3_1{end}runtime"), needed(f"pytorch-2_3_1{end}devel")
    other = needed(f"pytorch-2_2_2{end}runtime")
    assert {name.rpartition("-")[0] for name in runtime} == {"cuda", "cudnn", "framework"}
    assert runtime == devel
    assert {name.rpartition("-")[0] for name in runtime & other} == {"cuda", "cudnn"}


def test_a_base_of_a_registry_is_made_first_and_by_digest(tmp_path: Path) -> None:
    from test_render import project_of

    image = f"registry.example/debian@sha256:{'a' * 64}"
    cell = runtime_cell()
    cell = replace(cell, base=replace(cell.base, image=image))
    project = project_of(tmp_path, (cell,), ROOT / "templates", pip=True)
    rendered = {str(path): text for path, text in render_all(project, [cell]).items()}
    base = rendered["images/bases/bookworm-runtime/Dockerfile"]
    assert f"\nFROM {image}\n" in base
    for promise in (
        "--gid 900 venv",
        "--uid 1000",
        "2775",
        "USER 1000\n",
        "COPY builder/wheelyard/selfcheck ",
    ):
        assert promise in base
    bake = json.loads(rendered["docker-bake.json"])["target"]
    name = cell.id.replace(".", "_")
    contexts = bake[name]["contexts"]
    assert contexts["wheelyard/base:bookworm-runtime"] == "target:base-bookworm-runtime"
    assert bake["base-bookworm-runtime"]["dockerfile"] in rendered


def test_every_image_is_baked_on_a_base_that_needs_an_engine_alone() -> None:
    """`docker buildx bake NAME` in a fresh clone: nothing else has to be made before."""
    for name in BAKE["group"]["default"]["targets"]:
        for target in (name, *needed_targets(BAKE["target"], name)):
            contexts = BAKE["target"][target].get("contexts", {})
            of_the_base = {x for x in contexts if x.startswith("wheelyard/base:")}
            assert len(of_the_base) == (0 if target.startswith("base-") else 1), target
    for name in ("bookworm-runtime", "trixie-runtime"):
        base = BAKE["target"][f"base-{name}"]
        assert base["context"] == "."
        assert (ROOT / base["dockerfile"]).is_file()


def test_templates_give_the_same_steps_to_both_variants() -> None:
    """What both install is the same text, but for how it gets its files."""
    environment = make_environment(ROOT / "templates")
    step = WheelStep("cuda", "CUDA 12.1", tuple(RUNTIME[1:3]), tuple(RUNTIME[:1]))
    names = {"step": step, "cell": CELL, "venv": "/opt/venv", "not_compiled": "x"}
    names["installer"] = wheel("uv")
    plain, cached = (
        environment.get_template("partials/wheels.j2").render(mounts=mounts, **names)
        for mounts in (False, True)
    )
    assert "--mount" not in plain
    assert "--mount=type=secret" in cached
    pins = re.compile(r"^ +'[a-z].*--hash=sha256:.*$", re.MULTILINE)
    assert pins.findall(plain) == pins.findall(cached)
    assert "--invalidation-mode checked-hash" in plain
    installed = plain.partition("compileall")[0].count("uv pip install")
    assert installed == 2  # what gets no bytecode comes first: it is older than the list
