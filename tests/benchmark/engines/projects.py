"""The project that is built: one cell of this repository, and the same cell after a change."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from wheelyard.errors import WheelyardError
from wheelyard.model import Cell
from wheelyard.planning.plan import load_plan
from wheelyard.system.subprocesses import run

REPOSITORY = Path(__file__).parents[3]
FRAMEWORK, VERSION = "pytorch", "2.3.1"
# Wanted of every axis, so that nothing else has to be locked again.
SET = {
    "cuda": "12.1", "cudnn": "8.9", "python": "3.11", "base": "bookworm", "flavour": "runtime",
}  # fmt: skip
OTHER_IMAGES = ("include", "exclude")
ADDED = "tqdm"  # the change: one more small tool in the image


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with a matrix of one image, locked and rendered."""

    folder: Path
    cell: Cell
    requirements: tuple[str, ...]  # what somebody would give to pip for the same image


def as_committed(folder: Path) -> Project:
    """The cell with its committed locks."""
    write_matrix(REPOSITORY, folder, [VERSION])
    (cell,) = load_plan(folder).cells
    for path in (cell.lock, cell.base_lock):
        copy_file(path, folder)
    wheelyard(folder, "render")
    return Project(folder, cell, (f"torch=={VERSION}",))


def changed(project: Project, folder: Path) -> Project:
    """The cell with one more tool, locked again."""
    shutil.copytree(project.folder, folder)
    write_matrix(project.folder, folder, [VERSION], (ADDED,))
    wheelyard(folder, "lock")
    wheelyard(folder, "render")
    (cell,) = load_plan(folder).cells
    return Project(folder, cell, (*project.requirements, ADDED))


def copy_file(path: str | PurePosixPath, folder: Path) -> None:
    """A file of this repository at the same place in the folder."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(REPOSITORY / path, folder / path)


def write_matrix(
    source: Path, folder: Path, versions: Sequence[str], tools: tuple[str, ...] = ()
) -> None:
    """A matrix of one image for each of the framework's versions, with further tools."""
    matrix: dict[str, Any] = yaml.safe_load((source / "matrix.yaml").read_text())
    matrix = {name: value for name, value in matrix.items() if name not in OTHER_IMAGES}
    matrix["axes"] = {
        **{name: [value] for name, value in SET.items()},
        "framework": [f"{FRAMEWORK} {version}" for version in versions],
    }
    matrix["flavours"]["runtime"]["tools"] += tools
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "matrix.yaml").write_text(yaml.safe_dump(matrix, sort_keys=False))
    if not (folder / "templates").exists():
        shutil.copytree(source / "templates", folder / "templates")


def wheelyard(project: Path, *arguments: str) -> None:
    """Run a command in the project, unmeasured."""
    command = [sys.executable, "-m", "wheelyard", "--quiet", *arguments, "--project", str(project)]
    run(command, error=WheelyardError, what=" ".join(arguments), cwd=REPOSITORY)
