"""`wheelyard doctor`: what is wrong with this machine, and how to fix it."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from wheelyard.context import Context
from wheelyard.options import Command, add_json

_EXAMPLES = """\
examples:
  wheelyard doctor                      # everything; optional parts that are missing are notes
  wheelyard doctor --for gpu            # a GPU server: without a driver this fails
  wheelyard doctor --for build --json   # for programs

Exit code 17 if something is wrong.
"""

COMMAND = Command(
    "say what is wrong with this machine, and how to fix it",
    "Check tools, disk, network, engines, driver and GPUs.",
    _EXAMPLES,
    needs_project=False,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--for",
        dest="topics",
        action="append",
        choices=("build", "run", "gpu"),
        default=[],
        help="check only what this needs; may be repeated (default: everything)",
    )
    parser.add_argument(
        "--offline", action="store_true", help="do not contact indexes and registries"
    )
    add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Print one line per check; exit code 17 if one fails."""
    from wheelyard.console.table import show_json, show_table
    from wheelyard.errors import MachineError
    from wheelyard.servers.doctor import TOPICS, diagnose
    from wheelyard.servers.machine import read_machine

    machine = read_machine(context.settings, online=not args.offline)
    wanted = tuple(topic for topic in TOPICS if not args.topics or topic in args.topics)
    lines = diagnose(machine, wanted)
    if args.json:
        show_json([asdict(line) for line in lines])
    else:
        rows = [(x.topic, x.name, x.state, x.seen, x.fix or "") for x in lines]
        show_table(("for", "what", "state", "seen", "fix"), rows, fold=(1, 3, 4))
    return MachineError.exit_code if any(x.state == "wrong" for x in lines) else 0
