"""docker-bake.json: every image is a target, and every step that two images share, too. Pure.

A stage of a Dockerfile is replaced by a target through a context of the stage's name ("additional
build contexts" of buildx): `docker buildx bake` then runs what is shared once, on any builder.
An image that other architectures have as well gets one more target: it builds the one for the
builder's machine, under the names that all share, as a registry's index would give it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from wheelyard.architecture import ARCHITECTURES, DEFAULT
from wheelyard.contract.imageconfig import ImageConfig, base_folder, base_image
from wheelyard.model import Cell
from wheelyard.rendering.steps import chain

DOCKERFILE = "Dockerfile"
_MACHINE = "MACHINE"  # bake's variable: what follows a target's name for the machine that asks
_NATIVE = "native"
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True, slots=True)
class BakeRecipe:
    """An image's Dockerfile: its text, and name and text of every step."""

    cell: Cell
    text: str
    stages: tuple[str, ...]
    steps: tuple[str, ...]
    config: ImageConfig
    has_base: bool  # an engine alone can make what it starts from: its base has a Dockerfile


@dataclass(frozen=True, slots=True)
class _Stage:
    """A step in its place: the same key means the same result."""

    name: str  # of the target, if it is shared
    stage: str  # in the Dockerfile
    key: str


def bake_file(recipes: Iterable[BakeRecipe]) -> dict[str, Any]:
    """Return the whole file as JSON; `default` builds every image."""
    ordered = sorted(recipes, key=lambda recipe: recipe.cell.id)
    stages = {recipe.cell.id: _stages(recipe) for recipe in ordered}
    uses = Counter(stage.key for stage_list in stages.values() for stage in stage_list)
    shared = {key for key, count in uses.items() if count > 1}
    targets: dict[str, Any] = {}
    for recipe in ordered:
        if recipe.has_base:
            targets[_base_name(recipe.cell)] = _base_target(recipe.cell)
        below = _add_shared(targets, recipe, stages[recipe.cell.id], shared)
        targets[target_name(recipe.cell.id)] = {
            **_target(recipe, below),
            "labels": dict(recipe.config.labels),
            "tags": list(recipe.cell.tags),
        }
        if _is_shared(recipe.cell):
            targets[native_target(recipe.cell)] = _native(recipe.cell)
    group = {"targets": [target_name(recipe.cell.id) for recipe in ordered]}
    return {
        "variable": {_MACHINE: {"default": _machine()}},
        "group": {"default": group},
        "target": dict(sorted(targets.items())),
    }


def target_name(name: str) -> str:
    """Return an image's id as buildx allows it: without dots."""
    return _NOT_IN_NAMES.sub("_", name)


def native_target(cell: Cell) -> str:
    """Return the target that makes an image for the processor of the machine that asks."""
    return target_name(f"{cell.id}-{_NATIVE}" if _is_shared(cell) else cell.id)


def _is_shared(cell: Cell) -> bool:
    """Tell whether other architectures' images share the tags of this one."""
    return cell.tags == cell.shared_tags


def _native(cell: Cell) -> dict[str, Any]:
    """Return the target of whichever image the variable names, under the shared tags."""
    return {"inherits": [f"{target_name(cell.id)}${{{_MACHINE}}}"], "tags": list(cell.shared_tags)}


def _machine() -> str:
    """Return the expression that buildx evaluates on its machine: `darwin/arm64`, `linux/amd64`."""
    others = ", ".join(f'{name} = "-{name}"' for name in ARCHITECTURES if name != DEFAULT.name)
    return f'${{lookup({{{others}}}, split("/", BAKE_LOCAL_PLATFORM)[1], "")}}'


def _stages(recipe: BakeRecipe) -> list[_Stage]:
    keys = chain(base_image(recipe.cell), recipe.steps)
    return [
        _Stage(target_name(f"{stage}-{key[:12]}"), stage, key)
        for stage, key in zip(recipe.stages, keys, strict=True)
    ]


def _add_shared(
    targets: dict[str, Any], recipe: BakeRecipe, stages: Sequence[_Stage], shared: set[str]
) -> _Stage | None:
    """Add an image's missing shared steps; return the topmost."""
    below: _Stage | None = None
    for stage in stages:
        if stage.key not in shared:
            break
        if stage.name not in targets:
            targets[stage.name] = {**_target(recipe, below), "target": stage.stage}
        below = stage
    return below


def _target(recipe: BakeRecipe, below: _Stage | None) -> dict[str, Any]:
    contexts = {} if below is None else {below.stage: f"target:{below.name}"}
    if recipe.has_base:
        contexts[base_image(recipe.cell)] = f"target:{_base_name(recipe.cell)}"
    return {
        "context": str(recipe.cell.folder),
        "platforms": [_platform(recipe.cell)],
        **({"contexts": contexts} if contexts else {}),
    }


def _platform(cell: Cell) -> str:
    return f"linux/{cell.architecture}"


def _base_name(cell: Cell) -> str:
    return target_name(f"base-{base_folder(cell).name}")


def _base_target(cell: Cell) -> dict[str, Any]:
    """Return the target of a base by an engine alone; its context is the project."""
    dockerfile = str(base_folder(cell) / DOCKERFILE)
    return {"context": ".", "dockerfile": dockerfile, "platforms": [_platform(cell)]}
