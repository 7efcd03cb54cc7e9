"""Locks for one process and one thread at a time; the kernel frees them when their holder dies."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wheelyard.system.storage import in_the_way, remove

_POLL_SECONDS = 0.1
_FOREIGN_SECONDS = 24 * 3600.0  # unclaimed entries are kept, for programs that do not claim
_CLAIMED = "claimed-"
_HELD = ".held"  # in a claimed folder, locked by its owner
_GUARD = ".lock"  # held while folders are claimed or swept


def _nothing() -> None:
    return None


def once(say: Callable[[], None]) -> Callable[[], None]:
    """Wrap `say` for an `on_wait` that is called repeatedly: only the first call counts."""
    said = threading.Event()

    def first() -> None:
        if not said.is_set():
            said.set()
            say()

    return first


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] = _nothing) -> Iterator[None]:
    """Hold the lock file `path`, which is removed afterwards; its folder must exist.

    `on_wait` is called about ten times a second while another holder has the lock; an exception
    that it raises ends the wait. Raises OSError if the file cannot be made.
    """
    descriptor = _acquire(path, on_wait)
    try:
        yield
    finally:
        # Before the lock is freed, so that a waiting process sees that its file is gone.
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path, on_wait: Callable[[], None]) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except IsADirectoryError:
            raise in_the_way(path) from None
        try:
            while not _try_lock(descriptor):
                on_wait()
                time.sleep(_POLL_SECONDS)
            if _is_still(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the former holder removed this file: lock its successor


def _try_lock(descriptor: int) -> bool:
    import fcntl  # here: Windows does not have it, and most importers never lock

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


def claim_folder(parent: Path) -> tuple[Path, Callable[[], None]]:
    """Make a folder that `sweep` keeps while this process lives; return it and its remover.

    A lock marks the owner, not a process id: in another container the same id is another process.
    """
    with locked(parent / _GUARD):
        folder = Path(tempfile.mkdtemp(prefix=_CLAIMED, dir=parent))
        descriptor = os.open(folder / _HELD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _try_lock(descriptor)

    def release() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)

    return folder, release


def sweep(parent: Path, *, foreign: bool = True) -> None:
    """Remove what ended processes left in `parent`; what cannot be removed stays.

    With `foreign`, also remove old entries that no process ever claimed.
    """
    with locked(parent / _GUARD):
        for path in parent.iterdir():
            if not foreign and not path.name.startswith(_CLAIMED):
                continue
            if path.name != _GUARD and not _is_in_use(path):
                with suppress(OSError):
                    remove(path)


def _is_in_use(path: Path) -> bool:
    try:
        if not path.name.startswith(_CLAIMED):
            return time.time() - path.lstat().st_mtime < _FOREIGN_SECONDS
        descriptor = os.open(path / _HELD, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    except OSError:  # it belongs to another user
        return True
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)
