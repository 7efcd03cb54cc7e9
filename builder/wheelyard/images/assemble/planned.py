"""Plans the layers of an image, by their keys, before any of them is made. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wheelyard.contract.recipe import BytecodeLayer, WheelLayer, make_recipe
from wheelyard.images.assemble.assembly import PlannedLayer
from wheelyard.images.assemble.interpreter import interpreter_identity
from wheelyard.images.assemble.system import system_key, system_title

if TYPE_CHECKING:
    from wheelyard.lock.stages import Stage


def planned_layers(stages: Sequence[Stage]) -> tuple[PlannedLayer, ...]:
    """Return every layer of an image below the final one, lowest first.

    A base that is a registry's image has its own layers below these, and contains the Debian
    packages of every flavour.
    """
    is_pinned = stages[0].cell.base.image is not None
    recipe = make_recipe(stages[-1].cell, [stage.lock.wheels for stage in stages])
    found: list[PlannedLayer] = []
    for index, layers in enumerate(recipe):
        if not (is_pinned and index):
            found.append(_system(stages, index))
        found += [_of_wheels(layer, stages) for layer in layers]
    return tuple(found)


def planned_base(stages: Sequence[Stage]) -> tuple[PlannedLayer, ...]:
    """Return every layer of a base image below the final one: the lowest system, and pip."""
    pip = tuple(wheel for wheel in stages[0].lock.wheels if wheel.name == "pip")
    python = stages[0].cell.python
    layers = (WheelLayer(pip, python), BytecodeLayer(pip, python))
    return (_system(stages, 0), *(_of_wheels(layer, stages) for layer in layers))


def _system(stages: Sequence[Stage], index: int) -> PlannedLayer:
    return PlannedLayer(system_key(stages, index), system_title(stages, index), index)


def _of_wheels(layer: WheelLayer | BytecodeLayer, stages: Sequence[Stage]) -> PlannedLayer:
    if isinstance(layer, BytecodeLayer):
        compiling = stages[0].compiling
        key = layer.key(interpreter_identity(compiling.packages, compiling.cell.base))
        return PlannedLayer(key, layer.title, layer)
    return PlannedLayer(layer.key, layer.title, layer)
