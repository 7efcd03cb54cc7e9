"""A file behind a URL, read in parts: a wheel's directory without its gigabyte."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from wheelyard.errors import FetchError
from wheelyard.fetching.transport import open_body
from wheelyard.system.urls import redact

if TYPE_CHECKING:
    import httpx

CHUNK = 1 << 16  # bytes per request at least; a larger read is one request of its size


class RemoteFile(io.RawIOBase):
    """A seekable read-only file behind a URL; each read requests only its bytes."""

    def __init__(
        self, url: str, client: httpx.Client, on_bytes: Callable[[int], None] = lambda _: None
    ) -> None:
        self._url, self._client, self._at, self._on_bytes = url, client, 0, on_bytes
        with open_body(client, url, 0, 1) as body:
            if body.total is None:
                raise FetchError(f"{redact(url)}: the server does not state the file's size")
            self._size = body.total

    def readable(self) -> bool:  # noqa: D102
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:  # noqa: D102
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` from the current offset; FetchError if the server ignores ranges."""
        wanted = min(len(buffer), self._size - self._at)
        filled = 0
        if wanted <= 0:
            return 0
        with open_body(self._client, self._url, self._at, wanted) as body:
            if body.start != self._at:
                raise FetchError(f"{redact(self._url)}: the server ignores byte ranges")
            for chunk in body.chunks:
                part = chunk[: wanted - filled]
                buffer[filled : filled + len(part)] = part
                filled += len(part)
                self._on_bytes(len(chunk))
                if filled == wanted:
                    break
        self._at += filled
        return filled
