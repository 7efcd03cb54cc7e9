"""The input of a build: a cell's flavours, lowest first, each with its verified locks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wheelyard.lock.inputs import cells_by_id
from wheelyard.lock.state import load_package_lock, load_requirements_lock

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.model import Cell, PackageLock, Plan, RequirementsLock


@dataclass(frozen=True, slots=True)
class Stage:
    """One flavour of an image and its locks."""

    cell: Cell
    lock: RequirementsLock
    packages: PackageLock


def repositories(cell: Cell, plan: Plan) -> tuple[str, ...]:
    """List the repositories that may hold the layers of `cell`: its own, then its siblings'."""
    return tuple(dict.fromkeys((cell.repository, *(each.repository for each in plan.cells))))


def load_stages(cell: Cell, plan: Plan, project: Path) -> tuple[Stage, ...]:
    """Load the stages of `cell`, its parents' first.

    Raises LockError for a lock that is missing, edited by hand, another cell's, or older than the
    matrix.
    """
    cells = cells_by_id(plan.cells)
    below = load_stages(cells[cell.parent], plan, project) if cell.parent else ()
    lock = load_requirements_lock(project, cell, cells)
    return (*below, Stage(cell, lock, load_package_lock(project, cell, cells)))
