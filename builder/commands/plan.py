"""`wheelyard plan`: list the images, or explain one."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builder.context import Context
    from builder.model import Cell

EXAMPLES = """\
examples:
  wheelyard plan                               all images
  wheelyard plan cuda12.1-cudnn8.9             axis words; every one must hold
  wheelyard plan pytorch-2.3,pytorch-devel     several selectors
  wheelyard plan --json 'pytorch-2.4*'         a glob on ids, for programs
  wheelyard plan --explain pytorch-2.5.1-cuda12.1
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "plan",
        help="list the images of the matrix, or explain one",
        description="List the images that matrix.yaml asks for and upstream ships.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("selector", nargs="?", default="all", metavar="SELECTOR")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print a list of objects")
    output.add_argument("--explain", metavar="ID", help="say why an image is, or is not")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, context: Context) -> int:
    """Print the chosen images, or one explanation, to stdout."""
    from builder.explain import explain
    from builder.plan import load_inputs
    from builder.selector import select
    from builder.table import show_json, show_table

    matrix, upstream, plan = load_inputs(context.settings.project)
    if args.explain is not None:
        print(explain(matrix, upstream, plan, args.explain))
        return 0
    cells = select(plan, args.selector)
    if args.json:
        show_json([as_json(cell) for cell in cells], sys.stdout)
    else:
        show_table(["id", "tags"], [[cell.id, " ".join(cell.tags)] for cell in cells], sys.stdout)
    return 0


def as_json(cell: Cell) -> dict[str, Any]:
    """Return a cell the way programs read it; paths are relative to the project."""
    return {
        "id": cell.id,
        "framework": cell.framework,
        "framework_version": cell.framework_version,
        "cuda": cell.cuda,
        "cudnn": cell.cudnn,
        "python": cell.python,
        "flavour": cell.flavour.name,
        "base": cell.base.name,
        "tags": list(cell.tags),
        "lock": str(cell.lock),
        "parent": cell.parent,
        "requirements": list(cell.requirements),
        "constraints": list(cell.constraints),
    }
