"""A new disk for everything that a way writes: nothing that ran before makes it slower.

On an ext4 without a journal, creating files is slow for minutes after many were deleted: the kernel
hands out no inode that was freed lately (recently_deleted() in fs/ext4/ialloc.c).
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmark.measure import say
from tests.engines.daemons import temporary_folder
from wheelyard.console.amounts import amount
from wheelyard.errors import WheelyardError
from wheelyard.system.subprocesses import run

SIZE = 45_000_000_000  # bytes
SECTOR = 512
CLONE_NEWNS = 0x00020000  # sched.h
# Made whole at once: no thread of the kernel goes on with it while something is measured.
MAKE = ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0")


@contextmanager
def fresh_disk(parent: Path, size: int = SIZE) -> Iterator[Path]:
    """Mount point of a new ext4 with a journal in a sparse file in `parent`, gone afterwards.

    The file grows with what is written and does not shrink with what is deleted, as nothing is
    trimmed: in the end it may take `size` bytes, or what `parent` had free where that is less.
    Where no loop device can be had, a warning and a plain folder. What uses it must have ended.
    """
    with temporary_folder(parent) as folder:
        disk = folder / "disk"
        disk.mkdir()
        try:
            _mount_new(folder / "image", disk, min(size, shutil.disk_usage(folder).free))
        except WheelyardError as error:
            say(f"no disk of its own, numbers depend on what ran before: {error}")
        try:
            yield disk
        finally:
            if disk.is_mount():
                _unmount(disk)


def describe(disk: Path) -> str:
    """The file system that a way wrote to, for the report."""
    find = ["findmnt", "--noheadings", "--output=FSTYPE", "--target", str(disk)]
    kind = run(find, error=None).stdout.strip() or "unknown"
    if not disk.is_mount():
        return f"{kind}, shared with what ran before"
    size = amount(shutil.disk_usage(disk).total, "bytes")
    return f"{kind} of {size} on a loop device, a new one for each way"


def leave_the_mounts() -> None:
    """Keep to ourselves what this thread, and what it starts, mounts; it ends with them.

    Without the right to do that, nothing: nor is there one to mount.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) == 0:
        run(["mount", "--make-rprivate", "/"], error=WheelyardError, what="private mounts")


def _mount_new(image: Path, disk: Path, size: int) -> None:
    """From now on the mount alone holds device and file: they go with it, whatever ends it."""
    try:
        with image.open("wb") as file:
            file.truncate(size // SECTOR * SECTOR)
        _run(*MAKE, str(image))
        device = _run("losetup", "--find", "--show", str(image)).strip()
        try:
            _run("losetup", "--direct-io=on", device)  # by itself: where it fails, one is attached
            _run("mount", device, str(disk))
        finally:
            _run("losetup", "--detach", device)  # when it is no longer in use
    finally:
        image.unlink()


def _unmount(disk: Path) -> None:
    os.sync()
    if (done := run(["umount", str(disk)], error=None)).returncode:
        say(f"{disk} is still in use: {done.tail}")
        _run("umount", "--lazy", str(disk))


def _run(*argv: str) -> str:
    return run(argv, error=WheelyardError, what=" ".join(argv[:2])).stdout
