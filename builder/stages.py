"""What a build starts from: a cell's flavours, lowest first, each with its locks, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.errors import LockError
from builder.lock.inputs import cells_by_id, package_inputs, requirements_inputs
from builder.lock.lockfile import read_requirements_lock
from builder.lock.packages import read_package_lock

if TYPE_CHECKING:
    from pathlib import Path

    from builder.model import Cell, PackageLock, Plan, RequirementsLock


@dataclass(frozen=True, slots=True)
class Stage:
    """One flavour of an image and what it is locked to."""

    cell: Cell
    lock: RequirementsLock
    packages: PackageLock


def load_stages(cell: Cell, plan: Plan, project: Path) -> tuple[Stage, ...]:
    """The stages of `cell`, its parents' first.

    Raises LockError for a lock that is missing, edited by hand, another cell's, or older than
    the matrix.
    """
    cells = cells_by_id(plan.cells)
    parents = load_stages(cells[cell.parent], plan, project) if cell.parent else ()
    lock = read_requirements_lock(project / cell.lock)
    packages = read_package_lock(project / cell.base_lock)
    if lock.cell_id != cell.id:
        raise LockError(
            f"{cell.lock}: is the lock of {lock.cell_id}, not of {cell.id}; "
            f"run: wheelyard lock {cell.id}"
        )
    if (packages.base, packages.flavour) != (cell.base.name, cell.flavour.name):
        raise LockError(
            f"{cell.base_lock}: is the lock of {packages.base}-{packages.flavour}; "
            "run: wheelyard lock --bases-only"
        )
    if lock.inputs != requirements_inputs(cell, cells):
        raise LockError(
            f"{cell.lock}: the matrix has changed since it was written; "
            f"run: wheelyard lock {cell.id}"
        )
    if packages.inputs != package_inputs(cell, cells):
        raise LockError(
            f"{cell.base_lock}: the matrix has changed since it was written; "
            "run: wheelyard lock --bases-only"
        )
    return (*parents, Stage(cell, lock, packages))
