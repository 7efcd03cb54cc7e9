"""`wheelyard base`: the base images that the rendered Dockerfiles start from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wheelyard.context import Context

EXAMPLES = """\
examples:
  wheelyard base                        the bases of every image, loaded into the engine
  wheelyard base pytorch-2.3-runtime    only what these images need
  docker build images/ID                then builds the rendered Dockerfile on it
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "base",
        help="make the base images that the Dockerfiles start from",
        description="Make base images (Debian, user, empty environment with pip) and load them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("selector", nargs="?", default="all", metavar="SELECTOR")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("dist/bases"),
        help="image layout to write (default: dist/bases)",
    )
    parser.add_argument(
        "--load",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="load into the Docker Engine (default: if one answers)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, context: Context) -> int:
    """Make the bases of the selection and print their names."""
    from wheelyard.console.amounts import amount
    from wheelyard.console.table import show_table
    from wheelyard.images.build.bases import build_bases
    from wheelyard.images.build.loading import find_loader
    from wheelyard.planning.plan import load_plan
    from wheelyard.planning.selector import select

    plan = load_plan(context.settings.project)
    bases = build_bases(
        select(plan, args.selector),
        plan,
        args.output.absolute(),
        context,
        load=find_loader(args.load, context),
    )
    rows = [
        (name, image.manifest.digest[:19], amount(image.size, "bytes")) for name, image in bases
    ]
    show_table(("base image", "digest", "compressed"), rows)
    return 0
