"""Results on stdout: a table for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TextIO


def show_json(value: object, stream: TextIO | None = None) -> None:
    """Print `value` as indented JSON, keys in the order they were made in."""
    print(json.dumps(value, indent=2, ensure_ascii=False), file=stream or sys.stdout)


def show_table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], stream: TextIO | None = None
) -> None:
    """Print `rows` in aligned columns, never cut short, so that ids can be copied and piped."""
    lines = [tuple(headers), *(tuple(map(str, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip(), file=stream or sys.stdout)
