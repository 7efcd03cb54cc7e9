"""How a benchmark of several ways ends: JSON, a plot beside it, a table, an exit status."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.benchmark.measure import say
from wheelyard.console.table import show_table
from wheelyard.errors import INTERRUPTED
from wheelyard.system.textfiles import write_text

Draw = Callable[[Mapping[str, Any]], str]  # a report as an SVG


class AsJson(Protocol):
    """Has an entry in the report."""

    def as_json(self) -> dict[str, Any]:
        """The entry."""


class Measured(AsJson, Protocol):
    """A measure beside what it is compared with."""

    @property
    def ok(self) -> bool | None:
        """Whether the limit is kept; None without one."""

    def row(self) -> Sequence[str]:
        """Its line of the table."""


def draw_again(output: Path, draw: Draw) -> None:
    """Write the plot of a report on disk."""
    write_text(output.with_suffix(".svg"), draw(json.loads(output.read_text())))


def publish(
    output: Path,
    machine: Mapping[str, Any],
    runs: Sequence[AsJson],
    failures: Mapping[str, str],
    results: Sequence[Measured],
    columns: Sequence[str],
    draw: Draw,
) -> bool:
    """Write report and plot, print the table; True when everything was measured and is in limits.

    `failures` says of ways that could not be measured why.
    """
    if not results:
        return False
    report = {
        "version": 1,
        "environment": {**machine, "load_after": list(os.getloadavg())},
        "runs": [run.as_json() for run in runs],
        "not_measured": failures,
        "measures": [result.as_json() for result in results],
    }
    write_text(output, json.dumps(report, indent=1) + "\n")
    draw_again(output, draw)
    show_table(columns, [result.row() for result in results])
    return not failures and all(result.ok is not False for result in results)


def run_as_program(main: Callable[[], int]) -> None:
    """Exit as `main` says; a second way out is Ctrl-C."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("interrupted; nothing is left behind")
        sys.exit(INTERRUPTED)
