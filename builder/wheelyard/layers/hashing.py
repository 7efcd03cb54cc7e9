"""Two digests at once, while the blob is written to disk.

Inflating and hashing both release the GIL, so with a separate hashing thread one layer keeps two
cores busy. If every core has a layer to make anyway, it is cheaper to hash what was just inflated
while it is still in the core's cache.
"""

from __future__ import annotations

import hashlib
import queue
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, Self

_BATCH = 1 << 18  # bytes; small pieces are joined before they are hashed
_DEPTH = 16


class BlobSink:
    """Writes a blob; hashes both the blob's bytes and those of the tar inside it.

    With `blob_only` the tar is counted, not hashed: parts of it may be skipped.
    """

    def __init__(self, file: BinaryIO, *, threaded: bool, blob_only: bool = False) -> None:
        self._file = file
        self._blob = hashlib.sha256()
        self._tar = hashlib.sha256()
        self._blob_only = blob_only
        self._pending = {True: bytearray(), False: bytearray()}
        self._queue: queue.Queue[tuple[bool, bytes | bytearray] | None] = queue.Queue(_DEPTH)
        self._threads = ThreadPoolExecutor(1, "hash") if threaded else None
        self._hashing: Future[None] | None = None
        self.size = 0  # of the blob, bytes
        self.tar_size = 0  # of the tar inside it, bytes

    def __enter__(self) -> Self:
        if self._threads:
            self._hashing = self._threads.submit(self._work)
        return self

    def __exit__(self, *_: object) -> None:
        self._join()

    def blob(self, data: bytes) -> None:
        """Append to the blob."""
        self.size += len(data)
        self._push(True, data)

    def tar(self, data: bytes) -> None:
        """Append to the tar whose digest is the diff_id."""
        self.tar_size += len(data)
        if not self._blob_only:
            self._push(False, data)

    def skip(self, size: int) -> None:
        """Count `size` bytes of the tar that are not hashed."""
        self.tar_size += size

    def digests(self) -> tuple[str, str]:
        """Finish, and return the blob's digest and the diff_id, both as `sha256:<hex>`."""
        for is_blob, pending in self._pending.items():
            if pending:
                self._hand_over(is_blob, pending)
        self._join()
        self._require()
        return f"sha256:{self._blob.hexdigest()}", f"sha256:{self._tar.hexdigest()}"

    def _push(self, is_blob: bool, data: bytes) -> None:
        self._require()
        pending = self._pending[is_blob]
        if not pending and len(data) >= _BATCH:
            self._hand_over(is_blob, data)
            return
        pending += data
        if len(pending) >= _BATCH:
            self._hand_over(is_blob, pending)
            self._pending[is_blob] = bytearray()

    def _hand_over(self, is_blob: bool, data: bytes | bytearray) -> None:
        if self._hashing:
            self._queue.put((is_blob, data))
        else:
            self._take(is_blob, data)

    def _take(self, is_blob: bool, data: bytes | bytearray) -> None:
        if is_blob:
            self._blob.update(data)
            self._file.write(data)
        else:
            self._tar.update(data)

    def _require(self) -> None:
        """Raise what ended the thread early, if anything has."""
        if self._hashing and self._hashing.done():
            self._hashing.result()

    def _join(self) -> None:
        if self._threads:
            self._queue.put(None)
            self._threads.shutdown()

    def _work(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                self._take(*item)
        except BaseException:
            while self._queue.get() is not None:  # so that the writer never blocks
                pass
            raise
