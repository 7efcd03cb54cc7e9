"""One process, and one thread, at a time: a lock that the kernel frees when its holder dies."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

POLL_SECONDS = 0.1


def _nothing() -> None:
    return None


def once(say: Callable[[], None]) -> Callable[[], None]:
    """`say`, for an `on_wait` that is called again and again: only the first call counts."""
    said = threading.Event()

    def first() -> None:
        if not said.is_set():
            said.set()
            say()

    return first


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] = _nothing) -> Iterator[None]:
    """Hold the lock file `path`, which is removed afterwards; its folder must exist.

    `on_wait` is called about ten times a second while another holder has it; an exception it
    raises ends the wait. Raises OSError where the file cannot be made.
    """
    descriptor = _acquire(path, on_wait)
    try:
        yield
    finally:
        # Before the lock is freed, so that whoever waits sees that its file is gone.
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path, on_wait: Callable[[], None]) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            while not _try_lock(descriptor):
                on_wait()
                time.sleep(POLL_SECONDS)
            if _is_still(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the former holder removed this file: lock its successor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
