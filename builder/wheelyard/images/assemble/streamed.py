"""Wheels on their way, while layers are made of those that are there."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Self

from wheelyard.system.threads import STOP_SECONDS, Helper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Arrived = Callable[[str, Path], None]  # SHA-256 and path of a verified file
    Fetch = Callable[[Arrived, threading.Event], None]  # raises what went wrong; the event stops it


class Arriving(AbstractContextManager["Arriving"]):
    """Runs `fetch` beside its owner's work; leaving the context early stops it.

    `files` are those that are there, SHA-256 -> path; more appear while it runs.
    """

    def __init__(self, files: Mapping[str, Path], fetch: Fetch | None) -> None:
        self.files = dict(files)
        self.unchecked = frozenset(files)  # what comes now was hashed on its way
        self.ended = time.monotonic()  # when the last file came
        self._stop = threading.Event()
        self._thread = Helper(partial(self._run, fetch), "arriving")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join(STOP_SECONDS)

    def is_over(self) -> bool:
        """True when no more files will come."""
        return not self._thread.is_alive()

    def require(self) -> None:
        """Raise what kept a file from coming."""
        self._thread.require()

    def _run(self, fetch: Fetch | None) -> None:
        if fetch is None:
            return
        try:
            fetch(self.files.__setitem__, self._stop)
        finally:
            self.ended = time.monotonic()
