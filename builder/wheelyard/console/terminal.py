"""Progress on a terminal: one bar for each task in progress, one line for each finished task."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as RichTask
from rich.table import Column
from rich.text import Text

from wheelyard.console.amounts import Unit, amount, summary
from wheelyard.console.plain import fitted, one_line, plain
from wheelyard.console.streams import terminal
from wheelyard.console.tasks import Task


class _Amount(ProgressColumn):
    """Column that shows done, total and, for bytes, the rate."""

    def render(self, task: RichTask) -> Text:
        unit: Unit = task.fields["unit"]
        done = task.completed if task.total is None else min(task.completed, task.total)
        text = amount(done, unit)
        if task.total is not None:
            text += f" / {amount(task.total, unit)}"
        if unit == "bytes" and task.speed:
            text += f"  {amount(task.speed, unit)}/s"
        return Text(text, no_wrap=True)


class TerminalReporter:
    """Reporter whose bars occupy the terminal's last lines; messages scroll above them."""

    def __init__(self, stream: TextIO, *, color: bool = True) -> None:
        # None leaves the decision to rich, which knows NO_COLOR.
        self._console = Console(
            file=terminal(stream), no_color=None if color else True, highlight=False
        )
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._running = 0

    def info(self, message: str) -> None:
        """Write a line above the bars."""
        self._console.print(self._fitted(message), markup=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """Write a highlighted line above the bars."""
        text = self._fitted(f"warning: {message}")
        self._console.print(Text(text, style="yellow"), soft_wrap=True)

    def _fitted(self, message: str) -> str:
        return fitted(plain(message), self._console.width)

    @contextmanager
    def task(self, label: str, total: int | None, unit: Unit) -> Iterator[Task]:
        """Show a bar, and a line when the work is done; show no line when it failed."""
        progress, label = self._enter(), one_line(label)
        bar = _Bar(progress, progress.add_task(label, total=total, unit=unit), label)
        started = time.monotonic()
        try:
            yield bar
            told = summary(bar.done, time.monotonic() - started, unit)
            self.info(f"{_shortened(label, self._console.width - len(told) - 2)}: {told}")
        finally:
            progress.remove_task(bar.identity)
            self._leave()

    def close(self) -> None:
        """Remove the bars and restore the cursor, whatever work is still in progress."""
        with self._lock:
            if self._progress is not None:
                self._progress.stop()
                self._progress = None

    def _enter(self) -> Progress:
        with self._lock:
            self._running += 1
            if self._progress is None:
                self._progress = _bars(self._console)
                self._progress.start()
            return self._progress

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1
            if self._running == 0 and self._progress is not None:
                self._progress.stop()
                self._progress = None


def _bars(console: Console) -> Progress:
    return Progress(
        # Only the name gives way: amount, rate and time are whole at 80 columns.
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
        BarColumn(bar_width=_bar_width(console.width)),
        _Amount(table_column=Column(no_wrap=True, justify="right")),
        TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
        console=console,
        transient=True,
        expand=True,
    )


def _shortened(name: str, room: int) -> str:
    return name if len(name) <= room else f"{name[: max(1, room - 1)]}…"


def _bar_width(columns: int) -> int:
    """Return the columns of a bar: a quarter of what the name does not need."""
    return max(8, min(24, columns // 4 - 8))


class _Bar:
    def __init__(self, progress: Progress, identity: TaskID, label: str) -> None:
        self.identity = identity
        self._label = label
        self.done = 0
        self._progress = progress
        self._lock = threading.Lock()

    def advance(self, amount: int) -> None:
        """Move the bar."""
        with self._lock:
            self.done += amount
        self._progress.advance(self.identity, amount)

    def at(self, step: str) -> None:
        """Put the step before the label: a narrow terminal shortens the end."""
        self._progress.update(self.identity, description=f"{one_line(step)}  {self._label}")
