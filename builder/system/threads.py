"""A few threads that share work, and one signal that stops them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

STOP_SECONDS = 2.0  # how long an interrupted call waits for its threads


def run_threads(work: Callable[[], None], count: int, name: str, stop: threading.Event) -> None:
    """Run `work` in `count` threads until all return.

    On an exception here, KeyboardInterrupt most often, `stop` is set and the exception passed on.
    """
    # Daemons: one that waits for a silent server must not keep an interrupted process alive.
    threads = [
        threading.Thread(target=work, daemon=True, name=f"{name}-{number}")
        for number in range(count)
    ]
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
