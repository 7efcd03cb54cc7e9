"""Compares the locks on disk with the matrix: verifies them, or lists their problems. Offline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from wheelyard.errors import LockError
from wheelyard.lock.inputs import (
    Cells,
    base_cells,
    cells_by_id,
    package_inputs,
    parent_of,
    requirements_inputs,
)
from wheelyard.lock.lockfile import lock_command, read_requirements_lock
from wheelyard.lock.packages import COMMAND as BASES_COMMAND
from wheelyard.lock.packages import read_package_lock
from wheelyard.model import Cell, PackageLock, RequirementsLock

_IMAGES = PurePosixPath("images")
BASES = _IMAGES / "bases"

Kind = Literal["missing", "edited", "stale", "orphaned"]


@dataclass(frozen=True, slots=True)
class LockProblem:
    """One lock that does not match the matrix."""

    path: PurePosixPath  # relative to the project
    kind: Kind
    message: str


def load_requirements_lock(project: Path, cell: Cell, cells: Cells) -> RequirementsLock:
    """Return a cell's lock; LockError if it is missing, edited, another cell's or stale."""
    path = project / cell.lock
    lock = read_requirements_lock(path)
    command = lock_command(cell.id)
    if lock.cell_id != cell.id:
        raise LockError(f"{path} is the lock of {lock.cell_id!r}; write this one: {command}")
    if lock.inputs != requirements_inputs(cell, cells):
        raise LockError(
            f"{path} is stale: requirements, constraints, Python or parent of {cell.id} have"
            f" changed since it was written; write it again: {command}"
        )
    _check_superset(path, cell, lock, cells, project)
    return lock


def load_package_lock(project: Path, cell: Cell, cells: Cells) -> PackageLock:
    """Return the lock of a cell's base; LockError if it is missing, edited or stale."""
    path = project / cell.base_lock
    lock = read_package_lock(path)
    if (lock.base, lock.flavour, lock.suite) != (
        cell.base.full_name,
        cell.flavour.name,
        cell.base.suite,
    ):
        raise LockError(
            f"{path} is the lock of {lock.base} {lock.flavour}; write this one: {BASES_COMMAND}"
        )
    if lock.inputs != package_inputs(cell, cells):
        raise LockError(
            f"{path} is stale: the suite or the packages of {cell.base.full_name} "
            f"{cell.flavour.name} have changed since it was written; "
            f"write it again: {BASES_COMMAND}"
        )
    return lock


def lock_problems(
    project: Path, plan: Iterable[Cell], selected: Iterable[Cell] | None = None
) -> tuple[LockProblem, ...]:
    """List the problems of the locks of `selected`, or of everything in images/ if it is None."""
    everything = tuple(plan)
    cells = cells_by_id(everything)
    chosen = everything if selected is None else tuple(selected)
    found = []
    for cell in chosen:
        wheels = partial(load_requirements_lock, project, cell, cells)
        found.append(_problem(project, cell.lock, read_requirements_lock, wheels))
    for path, cell in base_cells(chosen).items():
        debs = partial(load_package_lock, project, cell, cells)
        found.append(_problem(project, path, read_package_lock, debs))
    problems = [problem for problem in found if problem is not None]
    if selected is None:
        problems.extend(_orphans(project, everything))
    return tuple(sorted(problems, key=lambda problem: problem.path))


def orphans(project: Path, plan: Iterable[Cell]) -> Iterator[PurePosixPath]:
    """Find image folders and base locks that belong to no cell, relative to the project."""
    known = {path for cell in plan for path in (cell.folder, cell.base_lock)}
    for folder, wanted in ((_IMAGES, Path.is_dir), (BASES, Path.is_file)):
        for path in sorted((project / folder).glob("*")):
            relative = folder / path.name
            if wanted(path) and relative != BASES and relative not in known:
                yield relative


def _problem(
    project: Path, path: PurePosixPath, read: Callable[[Path], object], load: Callable[[], object]
) -> LockProblem | None:
    """Say what is wrong with a lock: it cannot be read, or does not match its cell."""
    try:
        read(project / path)
    except LockError as problem:
        return LockProblem(path, "edited" if (project / path).exists() else "missing", str(problem))
    try:
        load()
    except LockError as problem:
        return LockProblem(path, "stale", str(problem))
    return None


def _orphans(project: Path, plan: Iterable[Cell]) -> Iterator[LockProblem]:
    for path in orphans(project, plan):
        message = (
            f"{project / path} does not belong to an image of the matrix; remove it: wheelyard "
            "render"
        )
        yield LockProblem(path, "orphaned", message)


def _check_superset(
    path: Path, cell: Cell, lock: RequirementsLock, cells: Cells, project: Path
) -> None:
    """Require all pins of the parent in a lock: only equal pins allow shared layers."""
    parent = parent_of(cell, cells)
    if parent is None:
        return
    above = read_requirements_lock(project / parent.lock)
    lost = sorted(wheel.name for wheel in set(above.wheels) - set(lock.wheels))
    if lost:
        raise LockError(
            f"{path} does not hold the pins of {parent.id}, which it extends"
            f" ({', '.join(lost)}); write it again: {lock_command(cell.id)}"
        )
