"""Several downloads at once, in threads that one signal stops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from wheelyard.errors import FetchError
from wheelyard.fetching.download import NothingCame, Session, download
from wheelyard.fetching.wanted import Download, FileGone, NotFetched, file_size, part, place
from wheelyard.system.storage import storage_error
from wheelyard.system.threads import each

_NETWORK_ADVICE = (
    "check the network and the proxy, or set mirrors that can be reached: --index-url, "
    "--debian-mirror"
)
_LISTED = 10  # failed files that an error message lists


class Batch:
    """Downloads that share one session; call `run` once."""

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

    def run(self, connections: int) -> dict[str, Path]:
        """Return SHA-256 -> path; raises NotFetched with all files that failed.

        What no other file would survive either (disk, network, a bug) ends it at once.
        """
        # The largest first: starting it last would leave one busy connection at the end.
        items = sorted(self._items, key=lambda item: item.size or 0, reverse=True)
        each(self._fetch, items, connections, "fetch", self._session.stop)
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
        silent = " and ".join(self._session.silent)
        advice = f"\nno data arrived from {silent}; {_NETWORK_ADVICE}" if silent else ""
        return f"could not fetch {len(errors)} of {len(self._items)} files:{listed}{more}{advice}"

    def _fetch(self, item: Download) -> None:
        try:
            path = download(item, self._folder, self._session)
            self._paths[item.sha256] = path
            self._arrived(item.sha256, path)
        except NothingCame as error:
            raise self._unreachable(error) from error
        except FetchError as error:
            self._failures[item.sha256] = error
        except OSError as error:
            raise storage_error(error, self._folder, bytes_missing([item], self._folder)) from error

    def _unreachable(self, error: NothingCame) -> FetchError:
        others = len(self._items) - 1
        also = f"\nno data arrived for the other {others} files either" if others else ""
        return FetchError(f"could not fetch {error}{also}; {_NETWORK_ADVICE}")


def bytes_missing(items: Sequence[Download], folder: Path) -> int | None:
    """Return the bytes still to fetch, as far as sizes are known; None if no size is known."""
    known = [item for item in items if item.size is not None]
    if not known:
        return None
    have = (file_size(part(place(folder, item.sha256, item.filename))) or 0 for item in known)
    return sum(max(0, (item.size or 0) - size) for item, size in zip(known, have, strict=True))
