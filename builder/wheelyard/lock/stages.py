"""The input of a build: a cell's flavours, lowest first, each with its verified locks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from wheelyard.lock.inputs import cells_by_id
from wheelyard.lock.state import load_package_lock, load_requirements_lock
from wheelyard.model import Cell, PackageLock, Plan, RequirementsLock

_PYTHON = re.compile(r"(lib)?python3\.\d+(?!-venv)")


def is_python(package: str) -> bool:
    """Tell whether a Debian package is a part of the base's Python."""
    return _PYTHON.match(package) is not None


@dataclass(frozen=True, slots=True)
class Stage:
    """One flavour of an image and its locks."""

    cell: Cell
    lock: RequirementsLock
    packages: PackageLock
    # The same stage for the default architecture, if it has the same Python. Bytecode does not
    # depend on the processor, so that one compiles for both, and they share its layers.
    native: Stage | None = None

    @property
    def compiling(self) -> Stage:
        """The stage whose Python makes the bytecode."""
        return self.native or self


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
    packages = load_package_lock(project, cell, cells)
    return (*below, Stage(cell, lock, packages, _native(cell, packages, plan, project)))


def _native(cell: Cell, packages: PackageLock, plan: Plan, project: Path) -> Stage | None:
    sibling = cells_by_id(plan.cells).get(cell.sibling, cell)
    if sibling is cell or cell.parent is not None or cell.base.image is not None:
        return None
    stage = load_stages(sibling, plan, project)[0]
    return stage if _python(stage.packages) == _python(packages) else None


def _python(lock: PackageLock) -> dict[str, str]:
    """Return the versions of the packages that a base's Python consists of."""
    return {deb.name: deb.version for deb in lock.packages if is_python(deb.name)}
