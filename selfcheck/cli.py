"""The `selfcheck` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from selfcheck import compile as compiling
from selfcheck import gpu, libraries, report, train, versions
from selfcheck.cell import CellError, load_cell
from selfcheck.result import Group, Options, Result, run_check

GROUPS: dict[str, Group] = {
    "versions": versions.checks,
    "libraries": libraries.checks,
    "gpu": gpu.checks,
    "train": train.checks,
    "compile": compiling.checks,
}
PASSED, FAILED, WRONG_USE = 0, 1, 2


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="selfcheck",
        description="Check that driver, GPU, CUDA, cuDNN, NCCL and framework work together here.",
        epilog="exit status: 0 everything passed or was skipped, 1 a check failed, 2 wrong use",
    )
    parser.add_argument(
        "groups", nargs="*", default=["all"], metavar="GROUP",
        help=f"{', '.join(GROUPS)} or all (default: all)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print a JSON report")
    parser.add_argument(
        "--require-gpu", action="store_true", help="a check skipped for want of a GPU has failed"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                        help="where models train (default: the GPU if there is one)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=7, help="seed of the training (default: 7)")
    parser.add_argument(
        "--cell", type=Path, metavar="FILE", help="description to compare with, instead of our own"
    )
    return parser


def selected(names: Sequence[str]) -> tuple[str, ...]:
    """Group names in the order of the registry; raises ValueError for an unknown one."""
    unknown = [name for name in names if name != "all" and name not in GROUPS]
    if unknown:
        raise ValueError(
            f"no such group: {', '.join(unknown)} (there are {', '.join(GROUPS)}, all)"
        )
    return tuple(name for name in GROUPS if name in names or "all" in names)


def run(names: Sequence[str], options: Options) -> Iterator[Result]:
    """Run the groups' checks, one result as soon as it is known."""
    for name in names:
        for check in GROUPS[name](options):
            yield run_check(check, options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks; the report goes to standard output, what frameworks say to standard error."""
    parser = make_parser()
    given = parser.parse_args(arguments)
    try:
        names, cell = selected(given.groups), load_cell(given.cell)
    except (ValueError, CellError) as error:
        parser.error(str(error))
    options = Options(cell, given.require_gpu, given.device, given.seed)
    results = _run_and_show(names, options, as_json=given.json)
    return FAILED if any(result.status == "fail" for result in results) else PASSED


def _run_and_show(names: Sequence[str], options: Options, *, as_json: bool) -> list[Result]:
    output, results = sys.stdout, []
    colour = report.wants_colour(output)
    with redirect_stdout(sys.stderr):
        for result in run(names, options):
            results.append(result)
            if not as_json:
                print(report.line(result, colour=colour), file=output, flush=True)
    print(report.to_json(results) if as_json else report.summary(results), file=output)
    return results
