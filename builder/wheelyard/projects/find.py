"""Which project a command means: a folder of the user's own, or the set of images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import UsageError
from wheelyard.projects.table import find_project_table
from wheelyard.settings import find_project

DIST = "dist"  # the commands' own default

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.projects.table import Project


def own_project(
    args: argparse.Namespace, context: Context, *, needs: str | None = None
) -> Project | None:
    """Return the user's own project if the command means it, None if it means the set.

    It is meant where no selector (or image) was given, and the nearest folder upwards with a table
    is nearer than one with matrix.yaml. For a command with `needs_project=False`. Raises UsageError
    as for a missing argument if there is neither a project nor the argument that `needs` names, and
    if the set is meant but matrix.yaml is not found.
    """
    named = getattr(args, "selector", None) or getattr(args, "image", None)
    if named is None:
        if (found := find_project_table(Path.cwd())) is not None:
            return found
        if needs is not None:
            raise UsageError(
                f"the following arguments are required: {needs}\n"
                f"`wheelyard {args.command} --help` lists what there is; in a project of your own "
                "(`wheelyard init`) none is needed"
            )
    if getattr(args, "project", None) is None and not has_matrix(context.settings.project):
        find_project(Path.cwd())
    context.mention_packaged()
    return None


def project_output(project: Project, output: Path) -> Path:
    """Return the folder of the layout; the default is in the project, not in the current folder."""
    return project.folder / output if output == Path(DIST) else output.absolute()


def set_folder(context: Context) -> Path | None:
    """Return the folder of the set that a user's own project is based on; None if there is none.

    That of --project, else the one around the project, else the one that this program came with.
    """
    folder = context.settings.project
    return folder if has_matrix(folder) else None


def has_matrix(folder: Path) -> bool:
    """Tell whether a folder is that of a set of images."""
    return (folder / "matrix.yaml").is_file()
