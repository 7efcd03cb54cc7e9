"""The inputs of a lock, as one digest: a lock with another digest is stale."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath

from wheelyard.architecture import ARCHITECTURES
from wheelyard.errors import LockError
from wheelyard.lock.sealed import digest
from wheelyard.model import Base, Cell

FORMAT = 1  # part of every digest: raise it when the way locks are resolved changes

Cells = Mapping[str, Cell]


def cells_by_id(cells: Iterable[Cell]) -> dict[str, Cell]:
    """Index cells by id, for looking up parents."""
    return {cell.id: cell for cell in cells}


def parent_of(cell: Cell, cells: Cells) -> Cell | None:
    """Return the cell whose locks `cell` extends, or None."""
    return None if cell.parent is None else cells[cell.parent]


def requirements_inputs(cell: Cell, cells: Cells) -> str:
    """Return the digest (SHA-256 hex) of all inputs of a cell's requirements lock."""
    parent = parent_of(cell, cells)
    inputs: dict[str, object] = {
        "format": FORMAT,
        "requirements": sorted(cell.requirements),
        "constraints": sorted(cell.constraints),
        "python": cell.python,
        "platform": wheel_platform(cell.base),
        "parent": None if parent is None else requirements_inputs(parent, cells),
    }
    if cell.overrides:  # included only if there are some: most cells have neither
        inputs["overrides"] = sorted(cell.overrides)
    if cell.index is not None:
        inputs["index"] = cell.index
    return digest(inputs)


def package_inputs(cell: Cell, cells: Cells) -> str:
    """Return the digest (SHA-256 hex) of all inputs of the package lock of a cell's base."""
    parent = parent_of(cell, cells)
    return digest(
        {
            "format": FORMAT,
            "suite": cell.base.suite,
            "architecture": cell.architecture,
            "packages": sorted(cell.flavour.packages),
            "parent": None if parent is None else package_inputs(parent, cells),
        }
    )


def base_cells(cells: Iterable[Cell]) -> dict[PurePosixPath, Cell]:
    """Map each base lock to one cell that uses it, preferring one with a parent."""
    users: dict[PurePosixPath, Cell] = {}
    for cell in cells:
        known = users.get(cell.base_lock)
        if known is None or (known.parent is None and cell.parent is not None):
            users[cell.base_lock] = cell
    return users


def wheel_platform(base: Base) -> str:
    """Return uv's name of the newest manylinux platform that the base's glibc supports."""
    known = _platforms()
    if base.suite not in known:
        raise LockError(
            f"the glibc of the Debian suite {base.suite!r} is unknown"
            f" (known: {', '.join(sorted(known))}); add it to builder/wheelyard/data/suites.json"
        )
    return f"{ARCHITECTURES[base.architecture].machine}-{known[base.suite]}"


@cache
def _platforms() -> dict[str, str]:
    text = files("wheelyard").joinpath("data/suites.json").read_text(encoding="utf-8")
    return {suite: facts["platform"] for suite, facts in json.loads(text)["suites"].items()}
