"""`wheelyard verify`: run the checks that images contain, and record the results."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.options import Command, add_json, add_output, add_selector

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.model import Cell
    from wheelyard.verify.record import Record

_EXAMPLES = """\
Runs `selfcheck` in each image: in a Docker Engine if one answers (with the GPUs, if it passes
them on), otherwise in a chroot, which needs root. Records are kept by image digest: an image that
has not changed since it passed is not run again.

examples:
  wheelyard verify pytorch-2.3.1                   # all checks; page in reports/verify/index.html
  wheelyard verify cuda12.1 --group versions --group libraries
  wheelyard verify all --again --require-gpu       # also unchanged ones; a missing GPU is a failure

Exit code 18 if a check of an image failed.
"""

COMMAND = Command(
    "run the checks that images contain",
    "Run selfcheck in built images; write JUnit, JSON and an HTML page.",
    _EXAMPLES,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_selector(parser)
    add_output(parser, "image layout to read")
    parser.add_argument(
        "--report", type=Path, default=Path("reports/verify"), metavar="FOLDER",
        help="records, junit.xml, report.json, index.html (default: reports/verify)",
    )  # fmt: skip
    parser.add_argument(
        "--group", action="append", dest="groups", metavar="NAME",
        help="a group of selfcheck; may be repeated (default: all)",
    )  # fmt: skip
    parser.add_argument("--again", action="store_true", help="also run images that passed before")
    parser.add_argument(
        "--require-gpu", action="store_true", help="treat a missing GPU as a failure"
    )
    parser.add_argument(
        "--backend", choices=("auto", "docker", "chroot"), default="auto",
        help="how images are run (default: an engine if one answers, else a chroot)",
    )  # fmt: skip
    parser.add_argument(
        "--unpack-dir", type=Path, metavar="FOLDER",
        help="folder for an unpacked image, about 6 GB (default: in the cache)",
    )  # fmt: skip
    add_json(parser, "the report")


def run(args: argparse.Namespace, context: Context) -> int:
    """Verify the selection; print one row per image."""
    from wheelyard.errors import VerifyError
    from wheelyard.oci.layout import Layout
    from wheelyard.planning.plan import load_plan
    from wheelyard.planning.selector import select
    from wheelyard.verify.pages import to_json, write_pages
    from wheelyard.verify.places import find_place
    from wheelyard.verify.verify import Request, verify

    layout = Layout(args.output.absolute())
    cells = select(load_plan(context.settings.project), args.selector)
    if args.selector == "all":
        cells = _built(cells, layout.references())
    request = Request(
        tuple(args.groups or ("all",)),
        args.require_gpu,
        args.again,
        args.report.absolute(),
        (args.unpack_dir or context.settings.cache_dir / "tmp").absolute(),
    )
    place = find_place(args.backend, context.reporter)
    if place.backend != "chroot":  # which qemu can run
        cells = _for_this_machine(cells, context)
    results = verify(cells, layout, place, request, context.reporter)
    records = [record for record, _known in results]
    pages = write_pages(request.folder, records, context.settings.project / "templates")
    if args.json:
        print(to_json(records), end="")
    else:
        _show(results)
        context.reporter.info(f"report: {pages['html']}")
    return 0 if all(record.ok for record in records) else VerifyError.exit_code


def _for_this_machine(cells: Sequence[Cell], context: Context) -> tuple[Cell, ...]:
    """Leave out images that this machine cannot run; VerifyError if none is left."""
    import platform

    from wheelyard.architecture import of_machine
    from wheelyard.errors import VerifyError

    here = of_machine(platform.machine())
    fitting = tuple(cell for cell in cells if here is None or cell.architecture == here.name)
    others = ", ".join(cell.id for cell in cells if cell not in fitting)
    if others:
        advice = f"not for {platform.machine()}: {others}; under qemu with --backend chroot"
        if not fitting:
            raise VerifyError(advice)
        context.reporter.warn(advice)
    return fitting


def _built(cells: Sequence[Cell], references: Collection[str]) -> tuple[Cell, ...]:
    """Expand `all` to all built images; VerifyError if there is none."""
    from wheelyard.errors import VerifyError

    named = tuple(cell for cell in cells if cell.tags[0] in references)
    if not named:
        raise VerifyError("no image has been built; run: wheelyard build SELECTOR")
    return named


def _show(results: Sequence[tuple[Record, bool]]) -> None:
    from wheelyard.console.table import show_table

    rows = []
    for record, known in results:
        failed = [check["name"] for check in record.checks if check["status"] == "fail"]
        unchanged = ["unchanged"] if known else []
        told = record.error or ", ".join(failed or [*unchanged, *record.skip_reasons])
        first = told.splitlines()[0] if told else ""
        rows.append((record.id, record.result, f"{record.seconds:.0f} s", first))
    show_table(("image", "result", "time", "why"), rows)
