"""The `selfcheck` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from . import bench, burn, distributed, gpu, libraries, report, train, versions
from . import compile as compiling
from .cell import Cell, CellError, load_cell
from .data.pictures import DataError
from .frameworks import MODULES, missing_framework
from .result import Check, Group, Options, Result, run_check, skipped

GROUPS: dict[str, Group] = {
    "versions": versions.checks,
    "libraries": libraries.checks,
    "gpu": gpu.checks,
    "train": train.checks,
    "compile": compiling.checks,
    "distributed": distributed.checks,
    "bench": bench.checks,
    "burn": burn.checks,
}
COMPUTING = (
    "train",
    "compile",
    "distributed",
    "bench",
    "burn",
)  # nothing in them without a framework
LEVELS = ("quick", "medium", "burn")
# All that `--level quick` asks: what the start of a check's name is among.
QUICK = ("versions.", "libraries.", "gpu.driver", "gpu.devices", "gpu.framework.", "gpu.each.")
MOST_MINUTES = 7 * 24 * 60
PASSED, FAILED, WRONG_USE = 0, 1, 2


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="selfcheck",
        description="Check that driver, GPU, CUDA, cuDNN, NCCL and framework work together here.",
        epilog="exit status: 0 everything passed or was skipped, 1 a check failed, 2 wrong use",
    )
    parser.add_argument(
        "groups", nargs="*", default=["all"], metavar="GROUP",
        help=f"{', '.join(GROUPS)} or all (default: all)",
    )  # fmt: skip
    parser.add_argument("--level", choices=LEVELS, default="medium",
                        help="quick: a minute, versions, libraries, each GPU's health and one "
                        "product; medium: all but burn (default); burn: that, too")  # fmt: skip
    parser.add_argument("--minutes", type=_time, default=2.0, metavar="N",
                        help="that burn loads each device (default: 2)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print a JSON report")
    parser.add_argument(
        "--require-gpu", action="store_true", help="a check skipped for want of a GPU has failed"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                        help="where models train (default: the GPU if there is one)")  # fmt: skip
    parser.add_argument(
        "--cell", type=Path, metavar="FILE", help="description to compare with, instead of our own"
    )
    _training_options(parser.add_argument_group("training (train, bench)"))
    return parser


def _training_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--framework", choices=tuple(MODULES), help="only this one")
    names = ", ".join(train.NAMES)
    group.add_argument("--model", action="append", default=[], choices=train.NAMES,
                       metavar="NAME", help=f"only this one; may be repeated: {names}")  # fmt: skip
    group.add_argument("--seed", type=int, default=7, help="seed (default: 7)")
    group.add_argument("--batch", type=_positive, help="samples a step (default: the model's own)")
    group.add_argument("--data", type=Path, metavar="FOLDER",
                       help="MNIST (idx) or CIFAR-10 (binary) instead of our digits")  # fmt: skip
    group.add_argument("--samples", type=_positive, default=6000,
                       help="of that folder, to train with (default: 6000)")  # fmt: skip
    group.add_argument("--logdir", type=Path, metavar="FOLDER",
                       help="write curves for TensorBoard and checkpoints here")  # fmt: skip


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _time(text: str) -> float:
    number = float(text)
    if not 0 < number < MOST_MINUTES:
        raise argparse.ArgumentTypeError(f"must be above 0 and below {MOST_MINUTES}")
    return number


def selected(names: Sequence[str]) -> tuple[str, ...]:
    """Return group names in the order of the registry; raise ValueError for an unknown one."""
    unknown = [name for name in names if name != "all" and name not in GROUPS]
    if unknown:
        raise ValueError(
            f"no such group: {', '.join(unknown)} (there are {', '.join(GROUPS)}, all)"
        )
    return tuple(name for name in GROUPS if name in names or "all" in names)


def run(
    names: Sequence[str],
    options: Options,
    level: str = "medium",
    starting: Callable[[str], None] = lambda _name: None,
) -> Iterator[Result]:
    """Run the groups' checks, one result as soon as it is known; `starting` is told each name."""
    missing = missing_framework(options)
    for name in names:
        if name == "burn" and level != "burn":
            continue
        if missing and level != "quick" and name in COMPUTING:
            skip: Check = (f"{name}.framework", lambda: skipped(missing, wants_gpu=True))
            yield run_check(skip, options)
        for check in GROUPS[name](options):
            if level != "quick" or check[0].startswith(QUICK):
                starting(check[0])
                yield run_check(check, options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks; the report goes to standard output, what frameworks say to standard error."""
    parser = make_parser()
    given = parser.parse_args(arguments)
    try:
        names, cell = selected(given.groups), load_cell(given.cell)
        options = _options(given, cell)
    except (ValueError, CellError, DataError) as error:
        parser.error(str(error))
    level = "burn" if "burn" in given.groups else given.level  # asked for by name
    results = _run_and_show(names, options, level, as_json=given.json)
    if not results:  # nothing was asked, so nothing holds
        parser.error(f"no check is left of {', '.join(names)} with these options")
    return FAILED if any(result.status == "fail" for result in results) else PASSED


def _options(given: argparse.Namespace, cell: Cell | None) -> Options:
    """Return what the checks get; raise DataError for a data folder that cannot be used."""
    options = Options(
        cell,
        require_gpu=given.require_gpu,
        device=given.device,
        seed=given.seed,
        framework=given.framework,
        models=tuple(given.model),
        data=given.data,
        samples=given.samples,
        batch=given.batch,
        log=given.logdir,
        minutes=given.minutes,
        free_memory=gpu.free_memory,
    )
    if given.data is not None:
        train.pictures(options)  # before any work
    return options


def _say_running(name: str) -> None:
    """Print the check that runs to standard error, where `wheelyard verify` shows it."""
    print(f"selfcheck: running {name}", file=sys.stderr, flush=True)


def _run_and_show(
    names: Sequence[str], options: Options, level: str, *, as_json: bool
) -> list[Result]:
    output, results = sys.stdout, []
    colour = report.wants_colour(output)
    with redirect_stdout(sys.stderr):
        for result in run(names, options, level, _say_running if as_json else lambda _name: None):
            results.append(result)
            if not as_json:
                print(report.line(result, colour=colour), file=output, flush=True)
        told = report.to_json(results, report.header(options, level)) if as_json else None
    print(told or report.summary(results), file=output)
    return results
