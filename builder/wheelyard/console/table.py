"""Results on stdout: a table for people, JSON for programs."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TextIO

from wheelyard.console.plain import one_line, plain

_NARROWEST = 16  # columns of a cell that is wrapped


def show_json(value: object, stream: TextIO | None = None) -> None:
    """Print `value` as indented JSON; keys keep their order."""
    stream = stream or sys.stdout
    print(_dumps(value, stream), file=stream)


def show_json_list(values: Iterable[object], stream: TextIO | None = None) -> None:
    """Print a list as `show_json` does, holding one value in memory at a time."""
    stream = stream or sys.stdout
    before = "["
    for value in values:
        text = _dumps(value, stream).replace("\n", "\n  ")  # line ends are only between values
        stream.write(f"{before}\n  {text}")
        before = ","
    stream.write("[]\n" if before == "[" else "\n]\n")


def _dumps(value: object, stream: TextIO) -> str:
    letters = (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")
    return plain(json.dumps(value, indent=2, ensure_ascii=not letters))


def show_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    stream: TextIO | None = None,
    *,
    fold: Sequence[int] = (),
) -> None:
    """Print `rows` in aligned columns.

    In a file or pipe nothing is left out, so that ids can be copied. A terminal that is too narrow
    gets the columns `fold` in several lines each or, without any, the first columns that fit;
    `--wide` prints all.
    """
    stream = stream or sys.stdout
    lines = [tuple(headers), *(tuple(map(one_line, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left_out = 0
    if stream.isatty() and not _wide:
        room = shutil.get_terminal_size().columns
        if fold:
            lines, widths = _folded(lines, widths, fold, room)
        while len(widths) > 1 and _total(widths) > room and not fold:
            widths.pop()
            left_out += 1
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=False))
        print("  ".join(cells).rstrip(), file=stream)
    if left_out:
        names = ", ".join(headers[-left_out:])
        print(f"not shown in this width: {names} (--wide shows all)", file=sys.stderr)


_wide = False  # --wide


def set_wide(wide: bool) -> None:
    """Print tables in full, however narrow the terminal is."""
    global _wide
    _wide = wide


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _folded(
    lines: Sequence[tuple[str, ...]], widths: list[int], fold: Sequence[int], room: int
) -> tuple[list[tuple[str, ...]], list[int]]:
    """Wrap the columns `fold` so that the table fits into `room` columns."""
    over = _total(widths) - room
    if over <= 0:
        return list(lines), widths
    share = max(_NARROWEST, (sum(widths[at] for at in fold) - over) // len(fold))
    long = [at for at in fold if widths[at] > share]
    free = sum(share - widths[at] for at in fold if at not in long)  # what short columns leave
    each = share + free // max(1, len(long))
    widths = [min(width, each) if at in long else width for at, width in enumerate(widths)]
    wrapped = []
    for line in lines:
        cells = [textwrap.wrap(cell, widths[at]) or [""] for at, cell in enumerate(line)]
        wrapped += list(itertools.zip_longest(*cells, fillvalue=""))
    return wrapped, widths
