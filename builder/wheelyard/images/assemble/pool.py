"""Runs layer jobs on worker processes.

Processes, not threads: a wheel of ten thousand small files is mostly Python code, and two such
wheels in one interpreter would wait for each other's GIL. A job's process dies with its job, so an
interrupt is a signal, and a worker that the kernel kills is recognised as such.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import StorageError, WheelError, WheelyardError
from wheelyard.images.assemble.worker import Job, make_layer
from wheelyard.layers.layer import Layer
from wheelyard.system.storage import storage_error

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext
    from multiprocessing.process import BaseProcess

_GRACE = 2.0  # seconds that a worker may take to end what it started
_POLL = 0.2  # seconds between looks at how far the blobs have grown


def warm_up() -> None:
    """Start the process that workers are forked from; it imports their code in the background."""
    forkserver.set_forkserver_preload(["wheelyard.images.assemble.worker"])
    try:
        forkserver.ensure_running()
    except OSError as error:  # most often the path of its socket, which is limited to 108 bytes
        raise StorageError(
            f"cannot start workers in {tempfile.gettempdir()}: {error}; set TMPDIR to a folder "
            "with a shorter path"
        ) from error


def _no_more() -> None:
    """Return None: all jobs are known from the start."""


def run_jobs(
    jobs: Sequence[Job],
    workers: int,
    on_bytes: Callable[[int], None],
    more: Callable[[], Collection[Job] | None] = _no_more,
) -> Iterator[tuple[Job, Layer | WheelyardError]]:
    """Run every job, the heaviest first, and yield each with its result as it ends.

    `on_bytes` is called with the number of bytes of blobs written since its last call. `more` is
    called for jobs that have become possible, until it returns None. Leaving the iteration early
    (an error, Ctrl-C) ends the running workers and removes their scratch files.
    """
    waiting, coming = list(jobs), True
    context = multiprocessing.get_context("forkserver")
    running: dict[Connection, tuple[Job, BaseProcess]] = {}
    growth = _Growth(on_bytes)
    try:
        while waiting or running or coming:
            if coming:
                arrived = more()
                coming = arrived is not None
                waiting = sorted([*waiting, *(arrived or ())], key=lambda job: job.weight)
            while waiting and len(running) < max(1, workers):
                is_idle = not coming and len(waiting) + len(running) < workers
                job = replace(waiting.pop(), threaded=is_idle)
                receiver, process = _start(context, job)
                running[receiver] = (job, process)
            ready = wait(list(running), timeout=_POLL)
            growth.look(job.scratch for job, _ in running.values())
            for receiver in [r for r in running if r in ready]:
                job, process = running.pop(receiver)
                result = _receive(receiver, job)
                process.join()
                if isinstance(result, WheelyardError):
                    job.scratch.unlink(missing_ok=True)
                yield job, result
    finally:
        _stop(running.values())


class _Growth:
    """Turns the sizes of growing files into progress."""

    def __init__(self, on_bytes: Callable[[int], None]) -> None:
        self._on_bytes = on_bytes
        self._sizes: dict[Path, int] = {}

    def look(self, paths: Iterator[Path]) -> None:
        for path in paths:
            with suppress(FileNotFoundError):
                size = path.stat().st_size
                self._on_bytes(size - self._sizes.get(path, 0))
                self._sizes[path] = size


def _stop(running: Collection[tuple[Job, BaseProcess]]) -> None:
    """End workers; on SIGTERM they end the program that they run and remove its output."""
    for _, process in running:
        process.terminate()
    for job, process in running:
        process.join(_GRACE)
        process.kill()
        process.join()
        job.scratch.unlink(missing_ok=True)


def _start(context: ForkServerContext, job: Job) -> tuple[Connection, BaseProcess]:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(job, sender), daemon=True)
    process.start()
    sender.close()
    return receiver, process


def _receive(receiver: Connection, job: Job) -> Layer | WheelyardError:
    """Return the worker's result; raise a bug in a worker as the bug that it is."""
    try:
        result = receiver.recv()
    except EOFError:
        return WheelError(
            f"{job.title}: the worker process exited unexpectedly; most likely the machine ran "
            "out of memory: run again with --workers 1"
        )
    finally:
        receiver.close()
    if isinstance(result, Layer | WheelyardError):
        return result
    raise RuntimeError(f"in the worker for {job.title}:\n{result}")


def _work(job: Job, sender: Connection) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):  # sent to all by a terminal: the parent decides
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    result: Layer | WheelyardError | str
    try:
        result = make_layer(job)
    except WheelyardError as error:
        result = error
    except OSError as error:
        result = storage_error(error, job.scratch.parent)
    except Exception:  # noqa: BLE001  (sent to the parent, which raises it)
        result = traceback.format_exc()
    with suppress(BrokenPipeError):
        sender.send(result)
    os._exit(0)
