"""`wheelyard build`: assemble images, read them back, load them into an engine if there is one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.build import Built, Failed
    from builder.context import Context

EXAMPLES = """\
examples:
  wheelyard build cuda12.1                       every CUDA 12.1 image, into dist/
  wheelyard build pytorch-2.3.1-devel --no-load  no engine, just the OCI image layout
  wheelyard build pytorch-2.4 --output /srv/oci  another folder
  wheelyard build all --fail-fast --json         for programs
  wheelyard build cuda12.8 --prune-wheels        a slice of the matrix on a small disk

An image that fails does not stop the others; the exit code is then that of the first failure.
Interrupted, the next run goes on where this one stopped.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "build",
        help="assemble images from their locks",
        description="Assemble the chosen images into an OCI image layout, without a daemon.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("selector", metavar="SELECTOR", help="see `wheelyard plan --help`")
    parser.add_argument(
        "--output", type=Path, default=Path("dist"), help="image layout to write (default: dist)"
    )
    parser.add_argument(
        "--load",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="load into the Docker Engine and tag there (default: if one answers)",
    )
    parser.add_argument(
        "--prune-wheels",
        action="store_true",
        help="remove wheels from the cache once no later image of this run needs them",
    )
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first failure")
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, context: Context) -> int:
    """Build the selection; prints what was built and returns the first failure's exit code."""
    from builder.build import Failed, build_images
    from builder.loading import find_loader
    from builder.plan import load_plan
    from builder.selector import select

    plan = load_plan(context.settings.project)
    cells = select(plan, args.selector)
    results = build_images(
        cells,
        plan,
        args.output.absolute(),
        context,
        load=find_loader(args.load, context),
        fail_fast=args.fail_fast,
        prune=args.prune_wheels,
    )
    _show(results, as_json=args.json)
    failures = [result for result in results if isinstance(result, Failed)]
    return failures[0].error.exit_code if failures else 0


def _show(results: Sequence[Built | Failed], *, as_json: bool) -> None:
    from builder.amounts import amount
    from builder.build import Failed
    from builder.report import image_json
    from builder.table import show_json, show_table

    if as_json:
        show_json(
            [
                {"id": r.cell.id, "error": str(r.error), "exit_code": r.error.exit_code}
                if isinstance(r, Failed)
                else image_json(r)
                for r in results
            ]
        )
        return
    rows = [
        (r.cell.id, "failed", "", "", "", "")
        if isinstance(r, Failed)
        else (
            r.cell.id,
            r.image.manifest.digest[:19],
            amount(r.image.size, "bytes"),
            amount(r.image.unpacked_size, "bytes"),
            amount(r.new_bytes, "bytes"),
            f"{sum(r.seconds.values()):.1f} s",
        )
        for r in results
    ]
    show_table(("image", "digest", "compressed", "unpacked", "not shared", "time"), rows)
