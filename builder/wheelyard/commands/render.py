"""`wheelyard render`: write the Dockerfiles, or check that they are up to date."""

from __future__ import annotations

import argparse

from wheelyard.context import Context
from wheelyard.errors import DriftError
from wheelyard.options import Command, add_json

_EXAMPLES = """\
Offline. Renders images/<id>/Dockerfile from matrix.yaml, templates/ and the locks, and removes
generated files of images that are no longer in the matrix.

examples:
  wheelyard render                  # after `wheelyard lock`, or a change in templates/
  wheelyard render --check          # write nothing; exit 6 and list what differs
"""

COMMAND = Command(
    "write the Dockerfiles",
    "Write images/<id>/Dockerfile for every image of the matrix.",
    _EXAMPLES,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 6 if a file would change"
    )
    add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Render everything, or check it; print each changed path."""
    from wheelyard.console.table import show_json
    from wheelyard.planning.plan import load_plan
    from wheelyard.rendering.render import find_drift, render_all

    context.settings.require_own("`wheelyard render`")
    if not args.check:
        write(context, as_json=args.json)
        return 0
    project = context.settings.project
    cells = load_plan(project).cells
    rendered = render_all(project, cells)
    drift = find_drift(project, cells, rendered)
    if args.json:
        show_json([{"path": str(item.path), "change": item.kind} for item in drift])
    if drift:
        listed = "".join(f"\n  {item.kind:8} {item.path}" for item in drift)
        raise DriftError(f"{len(drift)} rendered file(s) differ; run `wheelyard render`:{listed}")
    context.reporter.info(f"{len(rendered)} Dockerfiles are up to date")
    return 0


def write(context: Context, *, as_json: bool = False) -> None:
    """Bring every rendered file up to date; print each changed path."""
    from wheelyard.console.table import show_json
    from wheelyard.planning.plan import load_plan
    from wheelyard.rendering.render import render_all, write_rendered

    project = context.settings.project
    cells = load_plan(project).cells
    changes = [
        (str(change.path), "removed" if change.kind == "stale" else "written")
        for change in write_rendered(project, cells, render_all(project, cells))
    ]
    if as_json:
        show_json([{"path": path, "change": kind} for path, kind in changes])
        return
    for path, kind in changes:
        print(f"{kind}  {path}")
