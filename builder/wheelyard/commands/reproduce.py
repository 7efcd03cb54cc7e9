"""`wheelyard reproduce`: build a published image again and compare."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from wheelyard.options import Command, add_json, add_output, add_verify_options

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.publish.reproduce import Reproduction
    from wheelyard.registry.client import Registry

_EXAMPLES = """\
examples:
  wheelyard reproduce pytorch:2.3.1-cuda12.1 --registry registry.example/team
  wheelyard reproduce pytorch@sha256:7bc0... --registry registry.example/team --json
  wheelyard reproduce --tag 1.2        # in a project of your own: what it published as 1.2

The image is built from this project's locks without any layer of the cache, and the digest of its
manifest is compared. If it differs, exit code 11 and the first differing layer and file.
"""

COMMAND = Command(
    "build a published image again and compare every bit",
    "Build a published image again from its locks and compare the digests.",
    _EXAMPLES,
    needs_project=False,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "image", metavar="IMAGE", nargs="?",
        help="REPOSITORY:TAG or REPOSITORY@DIGEST; none in a project of your own",
    )  # fmt: skip
    parser.add_argument(
        "--tag", default="latest", metavar="TAG",
        help="tag or digest of a project's image (default: latest)",
    )  # fmt: skip
    add_output(parser, "image layout that may have a project's base")
    add_verify_options(parser)
    add_json(parser, "an object")


def run(args: argparse.Namespace, context: Context) -> int:
    """Print both digests, and the first difference of the images."""
    from wheelyard.console.plain import one_line
    from wheelyard.console.table import show_json, show_text
    from wheelyard.errors import InspectError
    from wheelyard.registry.client import open_registry

    address = context.settings.require_registry("the registry of the image")
    with open_registry(address, context.settings, context.reporter) as registry:
        outcome = _reproduced(args, registry, context)
    difference = outcome.difference
    if args.json:
        show_json(
            {
                "id": outcome.id,
                "published": outcome.theirs,
                "built": outcome.ours,
                "same": difference is None,
                "difference": difference and asdict(difference),
            }
        )
    elif difference is None:
        show_text(f"{outcome.id}: identical, {outcome.ours}")
    else:
        show_text(f"{outcome.id}: published {outcome.theirs}, built {outcome.ours}")
        told = f"{difference.what}: {difference.theirs}, ours {difference.ours}"
        show_text(one_line(f"first difference: {told}"))
        if difference.file is not None:
            show_text(f"  {one_line(difference.file)}")
    return 0 if difference is None else InspectError.exit_code


def _reproduced(args: argparse.Namespace, registry: Registry, context: Context) -> Reproduction:
    """Build an image of the user's own project again, or one of the set."""
    from wheelyard.planning.plan import load_plan
    from wheelyard.projects.find import own_project, project_output
    from wheelyard.publish.attest.trust import find_trust

    project = own_project(args, context, needs="IMAGE")
    trust = find_trust(args.verify_key, args.signed_as, context)
    if project is not None:
        from wheelyard.projects.reproduce import reproduce_project

        dist = project_output(project, args.output)
        return reproduce_project(project, args.tag, registry, dist, context, trust)
    from wheelyard.publish.reproduce import reproduce

    plan = load_plan(context.settings.project)
    return reproduce(registry, args.image, plan, context, trust)
