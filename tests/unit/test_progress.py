"""Progress: bars for people, lines for logs, nothing but warnings when quiet."""

from __future__ import annotations

import io
import os
import pty
import threading
from collections.abc import Iterator
from typing import TextIO

import pytest

from wheelyard.console.amounts import amount, summary
from wheelyard.console.progress import PlainReporter, QuietReporter, make_reporter
from wheelyard.console.terminal import TerminalReporter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(
    ("mode", "stream", "environ", "kind"),
    [
        ("auto", Terminal(), {"TERM": "xterm"}, TerminalReporter),
        ("auto", Terminal(), {"TERM": "dumb"}, PlainReporter),
        ("auto", Terminal(), {}, PlainReporter),
        ("auto", Terminal(), {"TERM": "xterm", "CI": "true"}, PlainReporter),
        ("auto", io.StringIO(), {"TERM": "xterm"}, PlainReporter),
        ("plain", Terminal(), {"TERM": "xterm"}, PlainReporter),
        ("terminal", io.StringIO(), {"X": "1"}, TerminalReporter),
        ("quiet", Terminal(), {"TERM": "xterm"}, QuietReporter),
        ("auto", None, {"TERM": "xterm"}, QuietReporter),
    ],
)
def test_the_stream_decides(mode: str, stream: TextIO, environ: dict[str, str], kind: type) -> None:
    assert type(make_reporter(mode, stream, environ=environ)) is kind  # type: ignore[arg-type]


def test_plain_lines_at_start_quarters_and_end(clock: Clock) -> None:
    out = io.StringIO()
    with PlainReporter(out, clock).task("torch.whl", 100_000_000, "bytes") as task:
        for _ in range(10):
            clock.now += 1
            task.advance(10_000_000)
    assert out.getvalue().splitlines() == [
        "torch.whl: 100.0 MB",
        "torch.whl: 30.0 MB of 100.0 MB (30%)",
        "torch.whl: 60.0 MB of 100.0 MB (60%)",
        "torch.whl: 90.0 MB of 100.0 MB (90%)",
        "torch.whl: done, 100.0 MB in 10.0 s (10.0 MB/s)",
    ]


def test_plain_lines_name_the_step(clock: Clock) -> None:
    out = io.StringIO()
    with PlainReporter(out, clock).task("checks", None, "items") as task:
        for step in ("versions.python", "train.cnn"):
            clock.now += 11
            task.at(step)
            task.advance(1)
    assert out.getvalue().splitlines()[1:3] == [
        "checks: 1, now versions.python", "checks: 2, now train.cnn",
    ]  # fmt: skip


def test_plain_lines_for_a_slow_task_without_total(clock: Clock) -> None:
    out = io.StringIO()
    with PlainReporter(out, clock).task("x", None, "bytes") as task:
        for _ in range(4):
            clock.now += 6
            task.advance(500)
    assert out.getvalue().splitlines() == [
        "x",
        "x: 1.0 kB",
        "x: 2.0 kB",
        "x: done, 2.0 kB in 24.0 s (83 B/s)",
    ]


def test_fast_tasks_get_two_lines(clock: Clock) -> None:
    out = io.StringIO()
    with PlainReporter(out, clock).task("cells", 8, "items") as task:
        for _ in range(8):
            task.advance(1)
    assert out.getvalue().splitlines() == ["cells: 8", "cells: done, 8 items in 0.0 s"]


def test_one_item_is_counted_as_one() -> None:
    assert [summary(n, 1, "items") for n in (0, 1, 2)] == [
        "0 items in 1.0 s", "1 item in 1.0 s", "2 items in 1.0 s",
    ]  # fmt: skip


def test_plain_says_where_a_task_stopped(clock: Clock) -> None:
    out = io.StringIO()

    def work() -> None:
        with PlainReporter(out, clock).task("x", 10, "bytes") as task:
            task.advance(4)
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert out.getvalue().splitlines()[-1] == "x: stopped at 4 B in 0.0 s"


def test_quiet_shows_warnings_only() -> None:
    out = io.StringIO()
    reporter = make_reporter("quiet", out)
    reporter.info("hidden")
    with reporter.task("hidden", 1, "items") as task:
        task.advance(1)
    reporter.warn("disk is nearly full")
    assert out.getvalue() == "warning: disk is nearly full\n"
    make_reporter("quiet", None).warn("no stream")


def test_amounts() -> None:
    shown = [amount(value, "bytes") for value in (0, 999, 1000, 755_100_000, 2_870_000_000)]
    assert shown == ["0 B", "999 B", "1.0 kB", "755.1 MB", "2.87 GB"]


@pytest.fixture
def screen() -> Iterator[tuple[TextIO, list[bytes]]]:
    """A real pseudo terminal and what was written to it."""
    leader, follower = pty.openpty()
    seen: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(leader, 65536):
                seen.append(chunk)
        except OSError:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(follower, "w") as stream:
        yield stream, seen
    reader.join()
    os.close(leader)


def _run_tasks(reporter: TerminalReporter) -> None:
    def work(number: int) -> None:
        with reporter.task(f"wheel-{number}[and-cuda].whl", 1000, "bytes") as task:
            for _ in range(100):
                task.advance(10)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _wait_for(seen: list[bytes], text: bytes) -> bytes:
    for _ in range(200):
        if text in b"".join(seen):
            break
        threading.Event().wait(0.01)
    return b"".join(seen)


def test_terminal_with_tasks_in_many_threads(screen: tuple[TextIO, list[bytes]]) -> None:
    stream, seen = screen
    reporter = TerminalReporter(stream)
    _run_tasks(reporter)
    reporter.warn("[not markup]")
    text = _wait_for(seen, b"[not markup]")
    for number in range(8):
        assert f"wheel-{number}[and-cuda].whl: 1.0 kB in".encode() in text
    assert text.rindex(b"\x1b[?25h") > text.rindex(b"\x1b[?25l")  # the cursor is back


def test_terminal_is_restored_while_a_task_still_runs(screen: tuple[TextIO, list[bytes]]) -> None:
    stream, seen = screen
    reporter = TerminalReporter(stream)
    with reporter.task("stuck", None, "items"):
        assert b"\x1b[?25l" in _wait_for(seen, b"\x1b[?25l")
        reporter.close()
        text = _wait_for(seen, b"\x1b[?25h")
        assert text.rindex(b"\x1b[?25h") > text.rindex(b"\x1b[?25l")


def test_terminal_obeys_no_name(screen: tuple[TextIO, list[bytes]]) -> None:
    stream, seen = screen
    reporter = TerminalReporter(stream, color=False)
    with reporter.task("a\x1b]0;title\x07", None, "items"):
        reporter.warn("b\x9b31m")
        reporter.info("c\x1b[31m\rd")
    text = _wait_for(seen, rb"a\u001b]0;title\u0007: 0")
    assert rb"warning: b\u009b31m" in text
    assert rb"c\u001b[31m\rd" in text
    assert not [raw for raw in (b"\x1b]0;", b"\xc2\x9b", b"\x1b[31m") if raw in text]


def test_terminal_without_colour(screen: tuple[TextIO, list[bytes]]) -> None:
    stream, seen = screen
    TerminalReporter(stream, color=False).warn("plain")
    assert _wait_for(seen, b"plain").strip() == b"warning: plain"
