"""Progress of a run on stderr: bars for people, lines for logs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, TextIO

from wheelyard.console.amounts import Unit, amount, summary
from wheelyard.console.plain import one_line, plain
from wheelyard.console.streams import fitting
from wheelyard.console.tasks import ClosableReporter, Task

Mode = Literal["auto", "terminal", "plain", "quiet"]

_LINE_SECONDS = 10.0  # longest silence of a plain log about a task that makes progress
_STEP_SECONDS = 2.0  # shortest time between two lines of one task
_STEP = 0.25  # share of the total that is worth a line


def make_reporter(
    mode: Mode,
    stream: TextIO | None,
    *,
    color: bool = True,
    environ: Mapping[str, str] | None = None,
) -> ClosableReporter:
    """Make the reporter for `stream` (usually stderr; None if the process has none)."""
    if stream is None or mode == "quiet":
        return QuietReporter(stream)
    if mode == "plain" or (mode == "auto" and not _shows_bars(stream, environ)):
        return PlainReporter(stream)
    from wheelyard.console.terminal import TerminalReporter  # here: rich is slow to import

    return TerminalReporter(stream, color=color)


def _shows_bars(stream: TextIO, environ: Mapping[str, str] | None) -> bool:
    environ = os.environ if environ is None else environ
    return stream.isatty() and not environ.get("CI") and environ.get("TERM", "dumb") != "dumb"


class QuietReporter:
    """Reporter that shows warnings only."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def info(self, message: str) -> None:
        """Do nothing."""

    def warn(self, message: str) -> None:
        """Write a warning line."""
        if self._stream is not None:
            self._stream.write(fitting(f"warning: {plain(message)}\n", self._stream))
            self._stream.flush()

    def task(self, label: str, total: int | None, unit: Unit) -> AbstractContextManager[Task]:  # noqa: ARG002
        """Yield a task that shows nothing."""
        return nullcontext(_Silent())

    def close(self) -> None:
        """Do nothing: there is nothing to restore."""


class _Silent:
    def advance(self, amount: int) -> None:
        pass

    def at(self, step: str) -> None:
        pass


class PlainReporter:
    """Reporter that writes single lines, for logs; never a control character."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()

    def info(self, message: str) -> None:
        """Write a line."""
        with self._lock:
            self._stream.write(f"{plain(message)}\n")
            self._stream.flush()

    def warn(self, message: str) -> None:
        """Write a line marked as a warning."""
        self.info(f"warning: {message}")

    @contextmanager
    def task(self, label: str, total: int | None, unit: Unit) -> Iterator[Task]:
        """Write lines at the start, at intervals, and at the end."""
        started, label = self._clock(), one_line(label)
        line = _Lines(label, total, unit, self.info, self._clock)
        self.info(label if total is None else f"{label}: {amount(total, unit)}")
        try:
            yield line
        except BaseException:
            self.info(f"{label}: stopped at {summary(line.done, self._clock() - started, unit)}")
            raise
        self.info(f"{label}: done, {summary(line.done, self._clock() - started, unit)}")

    def close(self) -> None:
        """Do nothing: there is nothing to restore."""


class _Lines:
    """A task that writes a line whenever enough has changed since the last one."""

    def __init__(
        self,
        label: str,
        total: int | None,
        unit: Unit,
        write: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self.done = 0
        self._label, self._total, self._unit = label, total, unit
        self._step = ""
        self._write, self._clock = write, clock
        self._lock = threading.Lock()
        self._line_at, self._line_done = clock(), 0

    def advance(self, amount: int) -> None:
        """Add to the count, and write a line when one is due."""
        with self._lock:
            self.done += amount
            now = self._clock()
            due = self._due(now - self._line_at)
            if due:
                self._line_at, self._line_done = now, self.done
        if due:
            self._write(f"{self._label}: {self._state()}")

    def at(self, step: str) -> None:
        """Name what is done now in the lines that follow."""
        self._step = f", now {one_line(step)}"

    def _due(self, silent: float) -> bool:
        if self._total is not None and self.done >= self._total:
            return False  # the closing line is about to say it
        step = self._total is not None and self.done - self._line_done >= _STEP * self._total
        return silent >= _LINE_SECONDS or (step and silent >= _STEP_SECONDS)

    def _state(self) -> str:
        done = amount(self.done, self._unit)
        if self._total:
            done += f" of {amount(self._total, self._unit)} ({self.done / self._total:.0%})"
        return done + self._step
