"""Several requests at once: threads that one failure, or Ctrl-C, stops."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from builder.registry.client import CONNECTIONS, Stopped

if TYPE_CHECKING:
    from builder.registry.client import Registry

STOP_SECONDS = 2.0  # how long an interrupted call waits for its threads

Item = TypeVar("Item")
Value = TypeVar("Value")


def each(
    registry: Registry,
    items: Sequence[Item],
    work: Callable[[Item], Value],
    connections: int = CONNECTIONS,
) -> list[Value]:
    """`work` done on every item, in threads; the values in the items' order.

    The first exception stops the other threads and is raised here; so does KeyboardInterrupt.
    """
    values: dict[int, Value] = {}
    failures: list[Exception] = []
    waiting: queue.SimpleQueue[tuple[int, Item]] = queue.SimpleQueue()
    for entry in enumerate(items):
        waiting.put(entry)

    def run() -> None:
        while not registry.stop.is_set():
            try:
                at, item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                values[at] = work(item)
            except Stopped:
                return
            except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
                failures.append(error)
                registry.stop.set()

    # Daemons: one that waits for a silent server must not keep an interrupted process alive.
    names = range(min(connections, len(items)))
    threads = [threading.Thread(target=run, daemon=True, name=f"push-{name}") for name in names]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        registry.stop.set()
        _wait_for(threads)
        raise
    if failures:
        raise failures[0]
    return [values[at] for at in range(len(items))]


def _wait_for(threads: Sequence[threading.Thread]) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    for thread in threads:
        if thread.ident is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
