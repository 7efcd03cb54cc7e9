"""The image that a project is based on: what it installs, and what must stay as it is."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

from wheelyard.architecture import DEFAULT
from wheelyard.contract.constraints import constraint_lines
from wheelyard.errors import ProjectError
from wheelyard.lock.inputs import cells_by_id, wheel_platform
from wheelyard.lock.sealed import digest
from wheelyard.model import Cell, Plan, RequirementsLock
from wheelyard.projects.model import BaseImage


def base_from_plan(cell: Cell, lock: RequirementsLock) -> BaseImage:
    """Describe an image of the matrix by its lock; manifest, config and digest are left empty."""
    return BaseImage(
        reference=cell.tags[0],
        digest="",
        manifest={},
        config={},
        wheels=lock.wheels,
        constraints=constraint_lines(cell, lock.wheels),
        overrides=cell.overrides,
        python=cell.python,
        platform=wheel_platform(cell.base),
    )


def planned_base(image: str, plan: Plan, folder: Path) -> BaseImage:
    """Return the image that a table names, from the plan and the locks in `folder`."""
    from wheelyard.lock.state import load_requirements_lock  # a published base needs none

    cell = base_cell(image, plan)
    return base_from_plan(cell, load_requirements_lock(folder, cell, cells_by_id(plan.cells)))


def base_cell(image: str, plan: Plan) -> Cell:
    """Return the one cell that a table names.

    If the words name neither flavour nor architecture, it is the runtime image for amd64.
    """
    from wheelyard.planning.selector import select

    cells = select(plan, image)
    cells = tuple(cell for cell in cells if cell.architecture == DEFAULT.name) or cells
    if len(cells) > 1:
        cells = tuple(cell for cell in cells if cell.parent is None) or cells
    if len(cells) > 1:
        listed = "".join(f"\n  {cell.tags[0]}" for cell in cells[:8])
        raise ProjectError(
            f'image = "{image}" means {len(cells)} images; a project is based on one, such as:'
            f"{listed}"
        )
    return cells[0]


def base_contents(base: BaseImage) -> str:
    """Return a digest (SHA-256 hex) of all that decides what a project locks on this base."""
    return digest(
        {
            "wheels": sorted(astuple(wheel) for wheel in base.wheels),
            "constraints": sorted(base.constraints),
            "overrides": sorted(base.overrides),
            "python": base.python,
            "platform": base.platform,
        }
    )
