"""What overlaps: layers are made of the wheels that have arrived, and passed on when complete."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from wheelyard.system.threads import STOP_SECONDS, Helper

if TYPE_CHECKING:
    Arrived = Callable[[str, Path], None]  # SHA-256 and path of a verified file
    Fetch = Callable[[Arrived, threading.Event], None]  # raises what went wrong; the event stops it
    from wheelyard.layers.layer import Layer


class StreamedInputs(AbstractContextManager["StreamedInputs"]):
    """Runs `fetch` in a thread; leaving the context early stops it.

    `files` are the files that are there, SHA-256 -> path; more appear while it runs.
    """

    def __init__(self, files: Mapping[str, Path], fetch: Fetch | None) -> None:
        self.files = dict(files)
        self.unchecked = frozenset(files)  # files that arrive later were hashed when received
        self.ended = time.monotonic()  # when the last file arrived
        self._stop = threading.Event()
        self._thread = Helper(partial(self._run, fetch), "arriving")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join(STOP_SECONDS)

    def is_over(self) -> bool:
        """Tell whether no more files will arrive."""
        return not self._thread.is_alive()

    def require(self) -> None:
        """Raise the error that kept a file from arriving."""
        self._thread.require()

    def _run(self, fetch: Fetch | None) -> None:
        if fetch is None:
            return
        try:
            fetch(self.files.__setitem__, self._stop)
        finally:
            self.ended = time.monotonic()


def ignore(_layer: Layer) -> None:
    """Do nothing: nothing waits for the layer."""


class GrowingImage:
    """Passes the layers of `keys` on, lowest first, each as soon as all below it are complete."""

    def __init__(self, keys: Sequence[str], offer: Callable[[Layer], None]) -> None:
        self._waiting = list(reversed(keys))
        self._offer = offer
        self._made: dict[str, Layer] = {}

    def add(self, key: str, layer: Layer) -> None:
        """Add a finished layer."""
        self._made[key] = layer
        while self._waiting and self._waiting[-1] in self._made:
            self._offer(self._made[self._waiting.pop()])
