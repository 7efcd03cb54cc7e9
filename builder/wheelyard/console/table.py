"""Results on stdout: a table for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from wheelyard.console.plain import one_line, plain


def show_json(value: object, stream: TextIO | None = None) -> None:
    """Print `value` as indented JSON; keys keep their order."""
    stream = stream or sys.stdout
    print(_dumps(value, stream), file=stream)


def show_json_list(values: Iterable[object], stream: TextIO | None = None) -> None:
    """Print a list as `show_json` does, holding one value in memory at a time."""
    stream = stream or sys.stdout
    before = "["
    for value in values:
        text = _dumps(value, stream).replace("\n", "\n  ")  # line ends stand between values only
        stream.write(f"{before}\n  {text}")
        before = ","
    stream.write("[]\n" if before == "[" else "\n]\n")


def _dumps(value: object, stream: TextIO) -> str:
    letters = (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")
    return plain(json.dumps(value, indent=2, ensure_ascii=not letters))


def show_table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], stream: TextIO | None = None
) -> None:
    """Print `rows` in aligned columns, never truncated, so that ids can be copied and piped."""
    lines = [tuple(headers), *(tuple(map(one_line, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip(), file=stream or sys.stdout)
