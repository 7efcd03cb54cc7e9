"""Results on stdout: a table for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TextIO

from builder.console.plain import one_line


def show_json(value: object, stream: TextIO | None = None) -> None:
    """Print `value` as indented JSON, keys in the order they were made in."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # What JSON leaves as it is and a terminal obeys, such as U+009B, is written as JSON can.
    safe = "".join(x if x.isprintable() or x == "\n" else json.dumps(x)[1:-1] for x in text)
    print(safe, file=stream or sys.stdout)


def show_table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], stream: TextIO | None = None
) -> None:
    """Print `rows` in aligned columns, never cut short, so that ids can be copied and piped."""
    lines = [tuple(headers), *(tuple(map(one_line, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip(), file=stream or sys.stdout)
