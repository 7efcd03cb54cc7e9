"""The locked files that a build will request: from the cache, or read while they arrive.

All are fetched in the background, in the order in which they will be needed, by the same verified
and resumable downloads as for `assemble`. A reader follows a file that is still growing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from wheelyard.errors import FetchError, WheelyardError
from wheelyard.fetching.fetch import CONNECTIONS, Patience
from wheelyard.fetching.partial import settle
from wheelyard.fetching.wanted import Download, checked, part, place
from wheelyard.system.storage import storage_error
from wheelyard.system.threads import STOP_SECONDS, Helper, Stopped, each

if TYPE_CHECKING:
    from wheelyard.context import Context

    # Says why some of the files, by SHA-256, are unavailable.
    Refuse = Callable[[WheelyardError, Collection[str]], None]

_CHUNK = 1 << 20
_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A locked file that a build may request."""

    filename: str
    sha256: str  # hex
    size: int  # bytes


class PrefetchedFiles:
    """Files by SHA-256; `start` begins to fetch them, `close` stops."""

    def __init__(
        self,
        wanted: Sequence[WantedFile],
        locate: Callable[[Collection[str], Refuse], Sequence[Download]],
        context: Context,
    ) -> None:
        self.by_hash: Mapping[str, WantedFile] = {item.sha256: item for item in wanted}
        self.folder: Path = context.settings.cache_dir / "files"
        self.failure: BaseException | None = None  # the first; a build that missed it fails too
        self._locate, self._context = locate, context
        self._arriving: dict[str, Future[Path]] = {sha256: Future() for sha256 in self.by_hash}
        self._fetched: list[Path] = []
        self._stop, self._starting = threading.Event(), threading.Lock()
        self._thread = Helper(self._run, "wheelhouse-fetch", self._fail)

    def start(self) -> None:
        """Check the existing files and fetch the missing ones, in the background; once."""
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()

    def close(self) -> None:
        """Stop fetching; what has arrived stays for the next run.

        Only now are files flushed to the disk: before, an engine needs the disk for itself.
        """
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS)
        self._fail(FetchError("the build ended before the file arrived"), is_failure=False)
        for path in self._fetched:
            with suppress(OSError):
                settle(path)

    def path(self, sha256: str) -> Path:
        """Wait for a file and return it complete; raise what kept it from arriving."""
        return self._arriving[sha256].result()

    def read(self, sha256: str) -> Iterator[bytes]:
        """Yield the file's bytes, as they arrive; end early if the file is restarted or fails.

        Waits for the first bytes; raises what kept the file from arriving.
        """
        future, item = self._arriving[sha256], self.by_hash[sha256]
        return self._follow(future, item, self._open(future, item))

    def _follow(self, future: Future[Path], item: WantedFile, file: BinaryIO) -> Iterator[bytes]:
        with file:
            at = 0
            while at < item.size:
                chunk = file.read(_CHUNK)
                at += len(chunk)
                if at >= item.size and future.exception() is not None:
                    return  # the last piece is held back until the whole file was checked
                if chunk:
                    yield chunk
                elif not self._wait_for_more(future, file, at):
                    return

    def _open(self, future: Future[Path], item: WantedFile) -> BinaryIO:
        growing = part(place(self.folder, item.sha256, item.filename))
        while not future.done():
            with suppress(FileNotFoundError):
                if growing.stat().st_size:
                    return growing.open("rb")
            time.sleep(_POLL_SECONDS)
        return future.result().open("rb")

    def _wait_for_more(self, future: Future[Path], file: BinaryIO, at: int) -> bool:
        """Wait until the file is longer than `at`; return False if it never will be."""
        while True:
            done = future.done()  # before the size: what came last must not be missed
            size = file.seek(0, 2)
            file.seek(at)
            if size != at:
                return size > at
            if done or self._stop.is_set():
                return False
            time.sleep(_POLL_SECONDS)

    def _run(self) -> None:
        try:
            missing = self._missing()
            if missing and not self._stop.is_set():
                self._fetch(self._locate(missing, self._refuse))
        except OSError as error:
            raise storage_error(error, self.folder) from error

    def _missing(self) -> list[str]:
        """Return what the cache lacks or has only in part; all else can be read from here on."""
        missing = []
        for sha256, item in self.by_hash.items():
            if self._stop.is_set():
                break
            path = checked(self.folder, sha256, item.filename, item.size)
            if path is None:
                missing.append(sha256)
            else:
                self._arriving[sha256].set_result(path)
        return missing

    def _fetch(self, downloads: Sequence[Download]) -> None:
        from wheelyard.fetching.download import Session, download
        from wheelyard.fetching.transport import make_client

        settings, reporter = self._context.settings, self._context.reporter
        client = make_client(settings, CONNECTIONS)
        session = Session(client, reporter, Patience(), self._stop, durable=False)

        def fetch(item: Download) -> None:
            try:
                path = download(item, self.folder, session)
                self._fetched.append(path)
                self._arriving[item.sha256].set_result(path)
            except FetchError as error:
                self._fail(FetchError(f"could not fetch {error}"), item.sha256)
            except OSError as error:
                self._fail(storage_error(error, self.folder), item.sha256)

        with suppress(Stopped):
            each(fetch, downloads, CONNECTIONS, "wheelhouse", self._stop)
        client.close()

    def _refuse(self, error: WheelyardError, wanted: Collection[str]) -> None:
        for sha256 in wanted:
            self._fail(error, sha256)

    def _fail(
        self, error: BaseException, sha256: str | None = None, *, is_failure: bool = True
    ) -> None:
        """Record a failure for waiting readers; without a file, for all missing files.

        Only the first failure is kept.
        """
        if self.failure is None and is_failure:
            self.failure = error
        waiting = self._arriving.values() if sha256 is None else [self._arriving[sha256]]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
