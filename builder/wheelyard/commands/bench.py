"""`wheelyard bench`: compare two benchmark reports."""

from __future__ import annotations

import argparse
from pathlib import Path

from wheelyard.context import Context
from wheelyard.options import Command, add_json

_EXAMPLES = """\
A report is what `selfcheck bench --json` prints, in an image or outside.

examples:
  docker run --rm --gpus all IMAGE selfcheck bench --json > new.json
  wheelyard bench --compare old.json new.json       # exit code 18 if something became slower
  wheelyard bench --compare old/ new/               # folders of several processes' reports

A difference counts if it is larger than 5 % and twice the spread of both reports' windows. Of
folders it is the spread between processes, which is larger: three reports or more are best.
Measurements on another device, or with another batch or type, are shown as OTHER and do not count.
"""

COMMAND = Command(
    "compare two benchmark reports", "Show which throughputs changed beyond noise.", _EXAMPLES
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--compare", nargs=2, type=Path, required=True, metavar=("BEFORE", "AFTER"),
        help="reports of `selfcheck bench --json`, or folders of them",
    )  # fmt: skip
    add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Print one row per measurement; exit code 18 if one is slower beyond noise."""
    from wheelyard.console.table import show_json, show_table
    from wheelyard.errors import VerifyError
    from wheelyard.verify.compare import compare, read_series

    compared = compare(*map(read_series, args.compare))
    others = sum(item.verdict == "other" for item in compared)
    if others:
        context.reporter.warn(
            f"{others} of {len(compared)} measurements were made on another device, or with "
            "another batch or type: they are not compared"
        )
    if args.json:
        show_json(
            [
                {"name": item.name, "before": item.before, "after": item.after,
                 "ratio": round(item.ratio, 4), "noise": round(item.noise, 4),
                 "verdict": item.verdict}
                for item in compared
            ]
        )  # fmt: skip
    else:
        show_table(
            ("measurement", "verdict", "before", "after", "ratio", "noise"),
            [
                (item.name, item.verdict if item.verdict == "same" else item.verdict.upper(),
                 f"{item.before:,.4g}", f"{item.after:,.4g}", f"{item.ratio:.3f}",
                 f"{item.noise:.0%}")
                for item in compared
            ],
        )  # fmt: skip
    return VerifyError.exit_code if any(x.verdict == "slower" for x in compared) else 0
