"""`wheelyard plan`: list the images, explain one, or say what they share."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.options import Command, add_json, add_selector

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.images.build.sharing import Part
    from wheelyard.model import Cell, Plan
    from wheelyard.planning.facts import Upstream

_EXAMPLES = """\
examples:
  wheelyard plan                               # all images
  wheelyard plan cuda12.1-cudnn8.9             # axis words; every one must hold
  wheelyard plan pytorch-2.3,pytorch-devel     # several selectors
  wheelyard plan --json 'pytorch-2.4*'         # a glob on ids, for programs
  wheelyard plan --driver 550.54.14            # those that run on a host's NVIDIA driver
  wheelyard plan --explain pytorch-2.5.1-cuda12.1
  wheelyard plan runtime --sharing             # bytes in a registry, and in Docker's store
  wheelyard plan --sharing --having pytorch:2.9.1-cuda12.8   # what each one still has to pull

"built for" is what the wheel was compiled for, "asks for" what its metadata requires, "ships" what
the lock holds; each is CUDA / cuDNN.
"""

COMMAND = Command(
    "list the images of the matrix, explain one, or say what they share",
    "List the images that matrix.yaml requests and upstream supports.",
    _EXAMPLES,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_selector(parser, default="all", help="images to list (default: all)")
    add_json(parser, "objects, for programs")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--explain", metavar="ID", help="say why an image exists, or why not")
    output.add_argument("--sharing", action="store_true", help="say what the images share")
    parser.add_argument(
        "--having", metavar="ID", help="with --sharing: bytes to pull if this image is present"
    )
    parser.add_argument(
        "--driver", metavar="VERSION", help="only images that run on this NVIDIA driver"
    )


def run(args: argparse.Namespace, context: Context) -> int:
    """Print the selected images, one explanation, or what they share, to stdout."""
    from wheelyard.console.table import show_json, show_text
    from wheelyard.errors import UsageError
    from wheelyard.planning.explain import explain
    from wheelyard.planning.plan import load_inputs

    if args.driver is not None and not re.fullmatch(r"\d+(\.\d+){0,2}", args.driver):
        raise UsageError(f"--driver {args.driver}: write it as nvidia-smi does, such as 550.54.14")
    if args.having is not None and not args.sharing:
        raise UsageError("--having needs --sharing")
    matrix, upstream, plan = load_inputs(context.settings.project)
    if args.explain is not None:
        told = explain(matrix, upstream, plan, args.explain, args.driver)
        if args.json:
            show_json({"id": args.explain, "explanation": told.splitlines()})
        else:
            show_text(told)
        return 0
    cells = _chosen(plan, args)
    if args.sharing:
        _show_sharing(args, cells, plan, context)
    else:
        _show(args, cells, upstream, context.settings.project)
    return 0


def _chosen(plan: Plan, args: argparse.Namespace) -> tuple[Cell, ...]:
    from wheelyard.errors import SelectionError
    from wheelyard.planning.drivers import runs_on, too_old
    from wheelyard.planning.selector import select

    cells = select(plan, args.selector)
    if args.driver is None:
        return cells
    running = tuple(cell for cell in cells if runs_on(cell.cuda, args.driver))
    if not running:
        raise SelectionError(
            f"{args.selector}: none of {len(cells)} images runs there: "
            f"{too_old(cells[0].cuda, args.driver)}"
        )
    return running


def _show(
    args: argparse.Namespace, cells: Sequence[Cell], upstream: Upstream, project: Path
) -> None:
    from wheelyard.console.table import show_json_list, show_table
    from wheelyard.planning.provenance import provenance

    origins = ((cell, provenance(cell, upstream, _locked(cell, project))) for cell in cells)
    if args.json:
        show_json_list(
            (
                _as_json(cell)
                | {
                    name: {"cuda": versions.cuda, "cudnn": versions.cudnn}
                    for name, versions in (
                        ("built_for", origin.built_for),
                        ("asks_for", origin.asks_for),
                        ("ships", origin.ships),
                    )
                }
                for cell, origin in origins
            ),
            sys.stdout,
        )
        return
    rows = [
        [cell.id, origin.built_for, origin.asks_for, origin.ships, " ".join(cell.tags)]
        for cell, origin in origins
    ]
    show_table(["id", "built for", "asks for", "ships", "tags"], rows, sys.stdout)


def _locked(cell: Cell, project: Path) -> dict[str, str] | None:
    """Return the versions of NVIDIA's wheels in a cell's lock; None if it is not locked yet."""
    from wheelyard.errors import LockError
    from wheelyard.lock.lockfile import read_pins
    from wheelyard.planning.provenance import NVIDIA

    try:
        return read_pins(project / cell.lock, NVIDIA)
    except LockError:
        return None


def _show_sharing(
    args: argparse.Namespace, cells: Sequence[Cell], plan: Plan, context: Context
) -> None:
    from wheelyard.images.assemble.store import known_sizes
    from wheelyard.images.build.sharing import image_parts
    from wheelyard.lock.stages import load_stages
    from wheelyard.planning.selector import select

    known = known_sizes(context.settings.cache_dir)

    def parts_of(cell: Cell) -> tuple[Part, ...]:
        return image_parts(load_stages(cell, plan, context.settings.project), known)

    parts = {cell: parts_of(cell) for cell in cells}
    if args.having is None:
        _show_totals(args, parts, known)
    else:
        _show_pulls(args, parts, parts_of(select(plan, args.having)[0]))


def _show_totals(args: argparse.Namespace, parts: dict[Cell, Any], known: Any) -> None:
    from dataclasses import asdict

    from wheelyard.console.amounts import amount
    from wheelyard.console.table import show_json, show_table
    from wheelyard.images.build.sharing import measure

    flavours = dict.fromkeys(cell.flavour.name for cell in parts)
    groups = {name: [p for c, p in parts.items() if c.flavour.name == name] for name in flavours}
    if len(groups) > 1:
        groups["together"] = list(parts.values())
    sharing_of = {name: measure(images, known) for name, images in groups.items()}
    if args.json:
        show_json({name: asdict(sharing) for name, sharing in sharing_of.items()})
        return
    rows = [
        [
            name, s.images, amount(s.total, "bytes"), amount(s.bound, "bytes"),
            f"{amount(s.unique, 'bytes')} ({s.unique / s.bound:.3f} x bound)",
            f"{amount(s.docker, 'bytes')} ({s.docker / s.unique:.2f} x registry)",
            f"{s.known / s.unique:.0%}",
        ]
        for name, s in sharing_of.items()
    ]  # fmt: skip
    headers = ["images", "count", "one by one", "lower bound", "registry", "Docker", "measured"]
    show_table(headers, rows, sys.stdout)


def _show_pulls(args: argparse.Namespace, parts: dict[Cell, Any], there: Any) -> None:
    from wheelyard.console.amounts import amount
    from wheelyard.console.table import show_json, show_table
    from wheelyard.images.build.sharing import to_pull

    sizes = {
        cell.id: (sum(part.size for part in wanted), *to_pull(wanted, there))
        for cell, wanted in parts.items()
    }
    if args.json:
        keys = ("size", "registry", "docker")
        show_json([{"id": i, **dict(zip(keys, row, strict=True))} for i, row in sizes.items()])
        return
    rows = [[i, *(amount(size, "bytes") for size in row)] for i, row in sizes.items()]
    show_table(["image", "size", "to pull", "to pull by Docker"], rows, sys.stdout)


def _as_json(cell: Cell) -> dict[str, Any]:
    """Return a cell for programs; paths are relative to the project."""
    from wheelyard.planning.tags import axes

    return {
        "id": cell.id,
        **axes(cell),
        "policy": cell.policy,
        "tags": list(cell.tags),
        "lock": str(cell.lock),
        "parent": cell.parent,
        "requirements": list(cell.requirements),
        "constraints": list(cell.constraints),
        "overrides": list(cell.overrides),
        "index": cell.index,
    }
