"""Saves disk space: removes wheels whose layers have been made."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from wheelyard.fetching.wanted import place
from wheelyard.lock.stages import load_stages
from wheelyard.model import Cell, LockedWheel, Plan


def locked_wheels(cells: Iterable[Cell], plan: Plan, project: Path) -> set[LockedWheel]:
    """Return all wheels that any of `cells` installs."""
    return {
        wheel
        for cell in cells
        for stage in load_stages(cell, plan, project)
        for wheel in stage.lock.wheels
    }


def prune_wheels(wheels: Iterable[LockedWheel], files: Path) -> int:
    """Remove wheels from the folder of fetched files; return the number of freed bytes.

    A later build that lacks a layer fetches its wheel again. Not for a cache that another build is
    reading from.
    """
    freed = 0
    for wheel in wheels:
        path = place(files, wheel.sha256, wheel.filename)
        if path.is_file():
            freed += path.stat().st_size
            shutil.rmtree(path.parent)
    return freed
