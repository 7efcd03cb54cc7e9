"""Several downloads at once: threads that one signal stops."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from pathlib import Path

from wheelyard.errors import FetchError, StorageError
from wheelyard.fetching.download import NothingCame, Session, Stopped, download
from wheelyard.fetching.wanted import Download, FileGone, NotFetched, file_size, part, place
from wheelyard.system.storage import storage_error
from wheelyard.system.threads import run_threads

_NETWORK_ADVICE = (
    "check the network and the proxy, or name mirrors that can be reached: --index-url, "
    "--debian-mirror"
)
_LISTED = 10  # failed files that a message names


class Batch:
    """Downloads that share one session; `run` once, then ask for `result`."""

    def __init__(
        self,
        items: Sequence[Download],
        folder: Path,
        session: Session,
        arrived: Callable[[str, Path], None],
    ) -> None:
        self._items, self._folder, self._session = items, folder, session
        self._arrived = arrived
        self._paths: dict[str, Path] = {}
        self._failures: dict[str, FetchError] = {}  # by SHA-256
        self._fatal: list[Exception] = []  # disk, network or a bug: no other file would fare better
        self._queue: queue.SimpleQueue[Download] = queue.SimpleQueue()
        # The largest first: one that starts last would keep a single connection busy at the end.
        for item in sorted(items, key=lambda item: item.size or 0, reverse=True):
            self._queue.put(item)

    def run(self, connections: int) -> None:
        """Work through the queue; on KeyboardInterrupt stop the threads and pass it on."""
        run_threads(self._work, min(connections, len(self._items)), "fetch", self._session.stop)

    def result(self) -> dict[str, Path]:
        """SHA-256 -> path; raises what went wrong, all failed files in one NotFetched."""
        if self._fatal:
            raise self._fatal[0]
        if not self._failures:
            return self._paths
        errors = list(self._failures.values())
        gone = [sha256 for sha256, error in self._failures.items() if isinstance(error, FileGone)]
        raise NotFetched(self._message(errors), self._failures, gone) from errors[0]

    def _message(self, errors: Sequence[FetchError]) -> str:
        if len(errors) == 1:
            return f"could not fetch {errors[0]}"
        listed = "".join(f"\n  {text}" for text in sorted(map(str, errors))[:_LISTED])
        more = f"\n  and {len(errors) - _LISTED} more" if len(errors) > _LISTED else ""
        return f"could not fetch {len(errors)} of {len(self._items)} files:{listed}{more}"

    def _work(self) -> None:
        while not self._session.stop.is_set():
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return
            try:
                path = download(item, self._folder, self._session)
                self._paths[item.sha256] = path
                self._arrived(item.sha256, path)
            except Stopped:
                return
            except NothingCame as error:
                self._give_up(self._unreachable(error))
            except FetchError as error:
                self._failures[item.sha256] = error
            except OSError as error:
                self._give_up(self._storage_error(error, item))
            except Exception as error:  # noqa: BLE001 - raised again by result(), in the caller's thread
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._fatal.append(error)
        self._session.stop.set()

    def _unreachable(self, error: NothingCame) -> FetchError:
        others = len(self._items) - 1
        also = f"\nnothing came for the other {others} files either" if others else ""
        wrapped = FetchError(f"could not fetch {error}{also}; {_NETWORK_ADVICE}")
        wrapped.__cause__ = error
        return wrapped

    def _storage_error(self, error: OSError, item: Download) -> StorageError:
        wrapped = storage_error(error, self._folder, bytes_missing([item], self._folder))
        wrapped.__cause__ = error
        return wrapped


def bytes_missing(items: Sequence[Download], folder: Path) -> int | None:
    """Bytes still to come, as far as sizes are known; None when not one is."""
    known = [item for item in items if item.size is not None]
    if not known:
        return None
    have = (file_size(part(place(folder, item.sha256, item.filename))) or 0 for item in known)
    return sum(max(0, (item.size or 0) - size) for item, size in zip(known, have, strict=True))
