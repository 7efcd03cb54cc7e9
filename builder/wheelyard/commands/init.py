"""`wheelyard init`: make a folder a project, whose image is based on one of the set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.options import Command, add_json, add_verify_options

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.planning.catalogue import CatalogueEntry
    from wheelyard.projects.init import Draft
    from wheelyard.servers.pick import Host

_EXAMPLES = """\
examples:
  wheelyard init                                    # look, choose, write the table
  wheelyard init --print                            # only show it
  wheelyard init --image pytorch:2.3.1              # on an image that you name
  wheelyard init --registry registry.example/team   # choose from what is published there

It reads pyproject.toml, requirements*.txt, uv.lock, environment.yml and the Dockerfile of this
folder, and the driver and GPUs of this machine. The table is [tool.wheelyard] in pyproject.toml, or
wheelyard.toml where there is no pyproject.toml. Nothing that exists is changed. Then:
  wheelyard lock; wheelyard push --registry registry.example/team
"""

COMMAND = Command(
    "make this folder a project with an image of its own",
    "Write the table that names the image of the set that a project is based on.",
    _EXAMPLES,
    needs_project=False,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--image", metavar="IMAGE", help="build on this image: tag, id, axis words")
    parser.add_argument("--print", action="store_true", help="print the table, write nothing")
    add_verify_options(parser)
    add_json(parser, "an object")


def run(args: argparse.Namespace, context: Context) -> int:
    """Write the table; print where it is and why it says what it says."""
    from wheelyard.projects.init import draft

    entries = _entries(args, context)
    made = draft(Path.cwd(), entries, _host(args, context), args.image)
    if not args.print:
        _write(made)
    if args.json:
        from wheelyard.console.table import show_json

        show_json(
            {
                "file": str(made.path),
                "image": made.image,
                "table": made.table,
                "written": not args.print,
                "reasons": list(made.reasons),
            }
        )
    elif args.print:
        print(made.table, end="")
        for reason in made.reasons:
            context.reporter.info(reason)
    else:
        from wheelyard.console.plain import one_line
        from wheelyard.console.table import show_text

        for path, _ in made.more:
            print(f"{'file':<8}{path}")
        print(f"{'file':<8}{made.path}\n{'image':<8}{made.image}")
        for reason in made.reasons:
            show_text(f"{'reason':<8}{one_line(reason)}")
        print(f"{'next':<8}wheelyard lock")
    return 0


def _write(made: Draft) -> None:
    from wheelyard.system.textfiles import write_text

    for path, text in (*made.more, (made.path, made.text)):
        write_text(path, text)


def _entries(args: argparse.Namespace, context: Context) -> Sequence[CatalogueEntry]:
    from wheelyard.projects.ground import known_entries
    from wheelyard.publish.attest.trust import find_trust

    return known_entries(context, find_trust(args.verify_key, args.signed_as, context))


def _host(args: argparse.Namespace, context: Context) -> Host:
    """Return what is known about this machine; the image often runs on another one."""
    from wheelyard.servers.choosing import host_of
    from wheelyard.servers.machine import read_gpus
    from wheelyard.servers.pick import Host

    if args.image is not None:
        return Host(None)
    seen = read_gpus()
    if seen.driver is None:
        context.reporter.info(f"not chosen for a GPU: {seen.problem}")
        return Host(None)
    return host_of(seen.driver)
