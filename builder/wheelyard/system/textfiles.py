"""Small files, such as committed ones: written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from wheelyard.system.storage import in_the_way, storage_error


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace `path` by `text` (UTF-8, unchanged) as `write_bytes` does."""
    write_bytes(path, text.encode(), mode)


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace `path` by `content` in one step, making its folder.

    Raises StorageError if the disk is full or the folder is read-only; the old file stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content, mode)
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as refused:
        raise in_the_way(path) from refused
    except OSError as refused:
        named = OSError(refused.errno, refused.strerror, str(path))  # not the temporary file
        raise storage_error(named, path.parent) from refused


def _replace(path: Path, content: bytes, mode: int) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            if hasattr(os, "fchmod"):  # missing on Windows before Python 3.13
                os.fchmod(stream.fileno(), mode)  # committed files look the same under any umask
            stream.write(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
