"""Results on stdout: a table for people, JSON for programs."""

from __future__ import annotations

import itertools
import json
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TextIO

from wheelyard.console.plain import one_line, plain
from wheelyard.console.streams import columns, fitting

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


def show_text(text: object) -> None:
    """Print lines for people, wrapped where a terminal is too narrow for them."""
    print(fitting(str(text), sys.stdout))


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
        room = columns(stream)
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
        told = f"not shown in this width: {names} (--wide shows all)"
        print(fitting(told, sys.stderr), file=sys.stderr)


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
    if _total(widths) <= room:
        return list(lines), widths
    widths = _shared_out(lines, widths, fold, room)
    wrapped = []
    for line in lines:
        cells = [
            textwrap.wrap(cell, widths[at], break_on_hyphens=False) or [""]
            for at, cell in enumerate(line)
        ]
        wrapped += list(itertools.zip_longest(*cells, fillvalue=""))
    return wrapped, widths


def _shared_out(
    lines: Sequence[tuple[str, ...]], widths: Sequence[int], fold: Sequence[int], room: int
) -> list[int]:
    """Return widths that fill `room`: each word of `fold` in one line, if there is room for it."""
    words = [
        max(len(word) for line in lines for word in [*line[at].split(), ""])
        for at in range(len(widths))
    ]
    fitting_widths = list(widths)
    for longest in (room // 3, _NARROWEST):
        for at in fold:
            fitting_widths[at] = min(widths[at], max(_NARROWEST, min(words[at], longest)))
        if _total(fitting_widths) <= room:
            break
    while _total(fitting_widths) < room:
        at = min(
            (at for at in fold if fitting_widths[at] < widths[at]), key=fitting_widths.__getitem__
        )
        fitting_widths[at] += 1
    return fitting_widths
