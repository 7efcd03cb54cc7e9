"""Several requests at once: threads that one failure, or Ctrl-C, stops."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from wheelyard.registry.client import CONNECTIONS, Stopped
from wheelyard.system.threads import run_threads

if TYPE_CHECKING:
    from wheelyard.registry.client import Registry

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

    run_threads(run, min(connections, len(items)), "push", registry.stop)
    if failures:
        raise failures[0]
    return [values[at] for at in range(len(items))]
