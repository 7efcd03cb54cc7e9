"""Threads whose exceptions are raised again where they are waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

STOP_SECONDS = 2.0  # how long an interrupted call waits for its threads


def _nobody(_error: BaseException) -> None:
    return None


class Helper(threading.Thread):
    """A thread that keeps the exception which ended it, even a MemoryError, for `require`.

    `on_error` is called with it in the thread itself, so that nothing waits for what will not come.
    """

    def __init__(
        self,
        work: Callable[[], None],
        name: str,
        on_error: Callable[[BaseException], None] = _nobody,
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


def run_threads(work: Callable[[], None], count: int, name: str, stop: threading.Event) -> None:
    """Run `work` in `count` threads until all return; raise what one of them raised.

    On an exception in any thread, the calling one included (usually KeyboardInterrupt), set `stop`.
    """

    def end(_error: BaseException) -> None:
        stop.set()

    threads = [Helper(work, f"{name}-{number}", end) for number in range(count)]
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
    for thread in threads:
        thread.require()
