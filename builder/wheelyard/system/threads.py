"""Threads whose exceptions are raised again where they are waited for."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")

STOP_SECONDS = 2.0  # how long an interrupted call waits for its threads


class Stopped(Exception):  # noqa: N818 - a request, not a defect
    """The work was told to stop; what it has done so far is kept."""


def _ignore(_error: BaseException) -> None:
    return None


class Helper(threading.Thread):
    """A thread that keeps the exception which ended it, even a MemoryError, for `require`.

    `on_error` is called with it in the thread itself, so that nothing waits for what will not come.
    """

    def __init__(
        self,
        work: Callable[[], None],
        name: str,
        on_error: Callable[[BaseException], None] = _ignore,
    ) -> None:
        # A daemon: one that waits for a silent server must not keep an interrupted process alive.
        super().__init__(name=name, daemon=True)
        self._work, self._on_error = work, on_error
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do the work once."""
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - raised again by require(), where it is waited for
            self._error = error
            self._on_error(error)

    def require(self) -> None:
        """Raise the exception that ended the thread early, if there is one."""
        if self._error is not None:
            raise self._error


def each(
    work: Callable[[Item], Value],
    items: Iterable[Item],
    count: int,
    name: str,
    stop: threading.Event | None = None,
) -> list[Value]:
    """Do `work` on every item in at most `count` threads; return the values in the items' order.

    The first exception, in a thread or here (KeyboardInterrupt most often), sets `stop` and is
    raised. Items that are not begun are left then; `work` may look at `stop` and raise Stopped.
    Raises Stopped where `stop` was set from outside.
    """
    waiting: queue.SimpleQueue[tuple[int, Item]] = queue.SimpleQueue()
    for entry in enumerate(items):
        waiting.put(entry)
    total, stop = waiting.qsize(), stop or threading.Event()
    values: dict[int, Value] = {}
    failures: list[BaseException] = []

    def run() -> None:
        while not stop.is_set():
            try:
                at, item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                values[at] = work(item)
            except Stopped:
                return

    def end(error: BaseException) -> None:
        failures.append(error)
        stop.set()

    _run_threads(
        [Helper(run, f"{name}-{number}", end) for number in range(min(count, total))], stop
    )
    if failures:
        raise failures[0]
    if len(values) < total:
        raise Stopped
    return [values[at] for at in range(total)]


def _run_threads(threads: list[Helper], stop: threading.Event) -> None:
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        stop.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        raise
