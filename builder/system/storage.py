"""What an operating-system error about files means for the user."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from builder.errors import StorageError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
REMEDY = "choose another folder with --cache-dir or WHEELYARD_CACHE"


def storage_error(
    error: OSError, folder: Path | None = None, needed: int | None = None
) -> StorageError:
    """`error` in the user's words; `needed` is the number of bytes still to be written."""
    place = folder or error.filename or "the file system"
    if error.errno in FULL:
        return no_space(folder, needed, str(place))
    if error.errno in REFUSED:
        return StorageError(
            f"{error.filename or place}: {error.strerror}; "
            f"make it writable for this user, or {REMEDY}"
        )
    return StorageError(f"{error.filename or place}: {error.strerror or error}")


def no_space(folder: Path | None, needed: int | None, place: str) -> StorageError:
    """A full disk, with the bytes that are free and the bytes that are missing where known."""
    free = None if folder is None else free_bytes(folder)
    figures = [
        f"{amount:,} bytes {word}"
        for amount, word in ((needed, "needed"), (free, "free"))
        if amount is not None
    ]
    detail = f" ({', '.join(figures)})" if figures else ""
    return StorageError(f"{place}: no space left{detail}; make room, or {REMEDY}")


def free_bytes(folder: Path) -> int | None:
    """Bytes this user may still write in `folder`; None when nothing can tell."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
