"""`wheelyard base`: the base images that the rendered Dockerfiles start from."""

from __future__ import annotations

import argparse

from wheelyard.context import Context
from wheelyard.options import Command, add_json, add_load, add_output, add_selector

_EXAMPLES = """\
examples:
  wheelyard base                        # the bases of every image, loaded into the engine
  wheelyard base pytorch-2.3-runtime    # only what these images need
  docker build images/ID                # then builds the rendered Dockerfile on it
"""

COMMAND = Command(
    "make the base images that the Dockerfiles start from",
    "Make base images (Debian, user, empty environment with pip) and load them.",
    _EXAMPLES,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_selector(parser, default="all")
    add_output(parser, "image layout to write", "dist/bases")
    add_load(parser)
    add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Make the bases of the selection and print their names."""
    from wheelyard.console.amounts import amount
    from wheelyard.console.table import show_json, show_table
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
    if args.json:
        show_json(
            [
                {"name": name, "digest": image.manifest.digest, "bytes": image.size}
                for name, image in bases
            ]
        )
        return 0
    rows = [
        (name, image.manifest.digest[:19], amount(image.size, "bytes")) for name, image in bases
    ]
    show_table(("base image", "digest", "compressed"), rows)
    return 0
