"""Parallel, resumable, hash-checked downloads into a folder that several processes may share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from wheelyard.console.tasks import Reporter
from wheelyard.errors import FetchError
from wheelyard.fetching.patience import PATIENCE, Patience
from wheelyard.fetching.wanted import Download, cached, problem
from wheelyard.settings import Settings
from wheelyard.system.storage import free_bytes, no_space, storage_error

__all__ = ["CONNECTIONS", "Download", "Patience", "cached", "fetch_all"]

CONNECTIONS = 8
_FEW = 4  # up to this many small files have a bar each

Arrived = Callable[[str, Path], None]  # SHA-256 and path of a verified file


def _ignore(_sha256: str, _path: Path) -> None:
    """Do nothing: nothing waits for the file."""


@dataclass(frozen=True, slots=True)
class _Watch:
    """Who is told about files that arrive, and the event that stops all downloads."""

    arrived: Arrived
    stop: threading.Event


def fetch_all(
    downloads: Sequence[Download],
    folder: Path,
    settings: Settings,
    reporter: Reporter,
    *,
    patience: Patience = PATIENCE,
    arrived: Arrived | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Path]:
    """Fetch every missing file; return SHA-256 -> path of the verified file.

    Files are stored at `folder/<sha256[:2]>/<sha256>/<filename>`, read-only. One failure does not
    stop the others: FetchError lists all failed files. StorageError ends the call. After
    KeyboardInterrupt, or when another thread sets `stop`, received bytes are kept for the next
    call. `arrived` is called with each file that arrives, in the thread that fetched it.
    """
    _require_valid(downloads)
    wanted = {item.sha256: item for item in downloads}
    try:
        paths = {key: path for key, item in wanted.items() if (path := _cached(item, folder))}
    except OSError as error:
        raise storage_error(error, folder) from error
    missing = [item for key, item in wanted.items() if key not in paths]
    if not missing:
        return paths
    watch = _Watch(arrived or _ignore, stop or threading.Event())
    return paths | _fetch_missing(missing, folder, settings, reporter, patience, watch)


def _cached(item: Download, folder: Path) -> Path | None:
    return cached(folder, item.sha256, item.filename, item.size)


def _require_valid(downloads: Iterable[Download]) -> None:
    problems = [text for item in downloads if (text := problem(item))]
    if problems:
        raise FetchError("refused to fetch:" + "".join(f"\n  {text}" for text in problems))


def _fetch_missing(
    items: Sequence[Download],
    folder: Path,
    settings: Settings,
    reporter: Reporter,
    patience: Patience,
    watch: _Watch,
) -> dict[str, Path]:
    # Here: a run that finds every file in its cache needs no HTTP client, which is slow to import.
    from wheelyard.fetching.batch import Batch, bytes_missing
    from wheelyard.fetching.download import Session, is_small
    from wheelyard.fetching.transport import make_client

    _require_space(folder, bytes_missing(items, folder))
    session = Session(make_client(settings, CONNECTIONS), reporter, patience, stop=watch.stop)
    small = [item for item in items if is_small(item)]
    with ExitStack() as stack:
        if len(small) > _FEW:
            label, total = f"{len(small)} small files", bytes_missing(small, folder)
            task = stack.enter_context(reporter.task(label, total, "bytes"))
            session = replace(session, shared=task)
        batch = Batch(items, folder, session, watch.arrived)
        try:
            paths = batch.run(CONNECTIONS)
        except Exception:
            session.client.close()
            raise
    session.client.close()  # not when interrupted: a thread may still be reading
    return paths


def _require_space(folder: Path, needed: int | None) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error
    free = free_bytes(folder)
    if needed is not None and free is not None and needed > free:
        raise no_space(folder, needed, str(folder))
