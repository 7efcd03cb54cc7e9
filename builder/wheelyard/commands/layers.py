"""`wheelyard layers`: record what layers are, or compare the record with the wheels."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wheelyard.options import Command, add_json, add_output, add_selector

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.publish.recording import Recorded

_EXAMPLES = """\
record writes images/layers.json from the cache: for every layer of the chosen images its digests
and sizes, and the inspection results of the builds in --output. Other images' entries stay while
their locks need them. With --bases-only it makes the layers of Debian packages and records only
those: a fresh clone can then take them from a registry after Debian has dropped packages. verify
writes nothing: it makes the recorded layers again and compares.

examples:
  wheelyard build cuda12.1 && wheelyard layers record cuda12.1
  wheelyard layers record all --bases-only
  wheelyard layers verify pytorch-2.3.1       # exit code 11 and the layer's name if one differs
"""

COMMAND = Command(
    "record the digests of layers, for `push --known` and quicker builds",
    "Write or verify the committed record of layers, images/layers.json.",
    _EXAMPLES,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "action", choices=("record", "verify"),
        help="record what a build made, or make recorded layers again and compare them",
    )  # fmt: skip
    add_selector(parser)
    add_output(parser, "layout with build.json")
    parser.add_argument(
        "--bases-only", action="store_true", help="record: make the bases, and record only those"
    )
    add_json(parser, "a list of objects, or an object")


def run(args: argparse.Namespace, context: Context) -> int:
    """Carry out one of the two actions."""
    from wheelyard.images.assemble.record import read_record, write_record
    from wheelyard.images.assemble.store import LayerStore
    from wheelyard.planning.plan import load_plan
    from wheelyard.planning.selector import select
    from wheelyard.publish.recording import record_bases, record_layers

    plan = load_plan(context.settings.project)
    cells = select(plan, args.selector)
    old = read_record(context.settings.project)
    if args.action == "verify":
        from wheelyard.console.table import show_json
        from wheelyard.publish.recording import verify_layers

        count = verify_layers(cells, plan, old, context)
        if args.json:
            show_json({"layers": count, "same": True})
        else:
            print(f"{count} layers made again; all of them match the record")
        return 0
    context.settings.require_own("`wheelyard layers record`")
    store = LayerStore(context.settings.cache_dir)
    if args.bases_only:
        record, results = record_bases(cells, plan, old, store, context)
    else:
        record, results = record_layers(cells, plan, old, args.output.absolute(), store, context)
    write_record(context.settings.project, record)
    _show(results, as_json=args.json)
    return 0


def _show(results: Sequence[Recorded], *, as_json: bool) -> None:
    from dataclasses import asdict

    from wheelyard.console.table import show_json, show_table

    if as_json:
        show_json([asdict(result) for result in results])
        return
    rows = [
        (r.id, str(r.layers), str(len(r.missing)), "yes" if r.inspected else "no") for r in results
    ]
    show_table(("image", "layers", "not made here", "inspected"), rows)
