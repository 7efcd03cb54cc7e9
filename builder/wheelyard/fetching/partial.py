"""A file being received: hashed while it grows, given its final name only when it is right."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from wheelyard.fetching.wanted import part
from wheelyard.system.storage import put, remove

_CHUNK = 1 << 20


class Partial:
    """`<target>.part`, open for appending; existing bytes are hashed on opening.

    Unbuffered, so that what `append` has written survives the process. Every method raises OSError
    as the file system does.
    """

    def __init__(self, target: Path, on_chunk: Callable[[int], None]) -> None:
        """Open the file; `on_chunk` gets the bytes gained (negative: given up), and may raise."""
        self.size = 0
        self._target = target
        self._path = part(target)
        self._on_chunk = on_chunk
        self._hash = hashlib.sha256()
        if self._path.is_dir():
            remove(self._path)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)

    def __enter__(self) -> Self:
        try:
            while chunk := self._file.read(_CHUNK):
                self._count(chunk)
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def sha256(self) -> str:
        """The hash of all bytes so far, as hex."""
        return self._hash.hexdigest()

    def append(self, chunk: bytes) -> None:
        """Append `chunk`."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._count(chunk)

    def reset(self) -> None:
        """Discard everything received so far."""
        self._file.seek(0)
        self._file.truncate()
        self._on_chunk(-self.size)
        self.size = 0
        self._hash = hashlib.sha256()

    def delete(self) -> None:
        """Remove the file; afterwards the context can only be left."""
        self._path.unlink(missing_ok=True)

    def finish(self, *, durable: bool = True) -> Path:
        """Give the file its final name, read-only and safe on disk; return that path.

        Without `durable`, the caller must call `settle` later.
        """
        os.fchmod(self._file.fileno(), 0o444)
        if durable:
            os.fsync(self._file.fileno())
        put(self._path, self._target)
        return self._target

    def _count(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self.size += len(chunk)
        self._on_chunk(len(chunk))


def settle(path: Path) -> None:
    """Wait until a finished file is safe on disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
