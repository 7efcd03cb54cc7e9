"""`wheelyard reproduce`: build a published image again and compare."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from wheelyard.options import Command, add_image, add_json, add_verify_options

if TYPE_CHECKING:
    from wheelyard.context import Context

_EXAMPLES = """\
examples:
  wheelyard reproduce pytorch:2.3.1-cuda12.1 --registry registry.example/team
  wheelyard reproduce pytorch@sha256:7bc0... --registry registry.example/team --json

The image is built from this project's locks without any layer of the cache, and the digest of its
manifest is compared. If it differs, exit code 11 and the first differing layer and file.
"""

COMMAND = Command(
    "build a published image again and compare every bit",
    "Build a published image again from its locks and compare the digests.",
    _EXAMPLES,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_image(parser)
    add_verify_options(parser)
    add_json(parser, "an object")


def run(args: argparse.Namespace, context: Context) -> int:
    """Print both digests, and the first difference of the images."""
    from wheelyard.console.plain import one_line
    from wheelyard.console.table import show_json
    from wheelyard.errors import InspectError, UsageError
    from wheelyard.planning.plan import load_plan
    from wheelyard.publish.attest.trust import find_trust
    from wheelyard.publish.reproduce import reproduce
    from wheelyard.registry.client import open_registry

    address = context.settings.registry
    if address is None:
        raise UsageError("the registry of the image is missing: --registry HOST/PREFIX")
    plan = load_plan(context.settings.project)
    with open_registry(address, context.settings, context.reporter) as registry:
        found = reproduce(
            registry,
            args.image,
            plan,
            context,
            find_trust(args.verify_key, args.signed_as, context),
        )
    difference = found.difference
    if args.json:
        show_json(
            {
                "id": found.cell.id,
                "published": found.theirs,
                "built": found.ours,
                "same": difference is None,
                "difference": difference and asdict(difference),
            }
        )
    elif difference is None:
        print(f"{found.cell.id}: identical, {found.ours}")
    else:
        print(f"{found.cell.id}: published {found.theirs}, built {found.ours}")
        told = f"{difference.what}: {difference.theirs}, ours {difference.ours}"
        print(one_line(f"first difference: {told}"))
        if difference.file is not None:
            print(f"  {one_line(difference.file)}")
    return 0 if difference is None else InspectError.exit_code
