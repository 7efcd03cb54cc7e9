"""Fetches one file into its verified place: resume, retries, hash check, atomic rename."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wheelyard.errors import FetchError
from wheelyard.fetching.partial import Partial
from wheelyard.fetching.patience import GaveUp, Patience
from wheelyard.fetching.replies import Gone, Interrupted, RangeRefused, Refused, Slow
from wheelyard.fetching.transport import Body, open_body
from wheelyard.fetching.wanted import Download, FileGone, cached, place
from wheelyard.system.filelock import locked, once
from wheelyard.system.threads import Stopped
from wheelyard.system.urls import redact

if TYPE_CHECKING:
    import httpx

    from wheelyard.console.tasks import Reporter, Task


_SMALL = 16_000_000  # bytes
_OTHER_FILE = (
    "a mirror or proxy serves other bytes than the lock pins; if the file was replaced upstream, "
    "lock again with `wheelyard lock`"
)


@dataclass(frozen=True, slots=True)
class Session:
    """What all downloads of one call share."""

    client: httpx.Client
    reporter: Reporter
    patience: Patience
    stop: threading.Event = field(default_factory=threading.Event)
    shared: Task | None = None  # common bar of small files; None: each has its own
    alive: set[str] = field(default_factory=set)  # servers that have answered
    silent: dict[str, str] = field(default_factory=dict)  # those that were given up, and why
    told: dict[tuple[str, str, int], object] = field(default_factory=dict)
    durable: bool = True  # wait until a finished file is safe on disk

    def task(self, item: Download) -> AbstractContextManager[Task]:
        """Return where the progress of `item` is shown."""
        if self.shared is not None and is_small(item):
            return nullcontext(self.shared)
        return self.reporter.task(item.filename, item.size, "bytes")

    def pause(self, item: Download, error: Interrupted, failures: int) -> None:
        """Wait for the next attempt; raise GaveUp or Stopped.

        Connections at once meet the same error of a server that never answered: one of them tells.
        """
        server = server_of(item)
        mine = object()
        is_first = self.told.setdefault((server, str(error), failures), mine) is mine
        what = item.filename if server in self.alive else server
        reporter = self.reporter if is_first or server in self.alive else None
        self.patience.pause(error, failures, self.stop, reporter, what)


def server_of(item: Download) -> str:
    """Return host and port of its URL, without a login."""
    return urlsplit(item.url).netloc.rpartition("@")[2]


def is_small(item: Download) -> bool:
    """Tell whether a separate bar would disappear before anyone could read it."""
    return item.size is not None and item.size < _SMALL


class NothingCame(FetchError):  # noqa: N818
    """A download failed before any file received a byte: the others would fail, too."""


class _WrongContent(Exception):  # noqa: N818
    """The bytes do not match the lock."""


def download(item: Download, folder: Path, session: Session) -> Path:
    """Fetch one file, or wait for another process that is fetching it.

    Raises FetchError, Stopped, and OSError as the file system does.
    """
    target = place(folder, item.sha256, item.filename)
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(target.name + ".lock")
    with locked(lock, _on_wait(item, session)):
        if path := cached(folder, item.sha256, item.filename, item.size):
            return path
        with session.task(item) as task:
            return _from_first(item, target, session, task)


def _from_first(item: Download, target: Path, session: Session, task: Task) -> Path:
    """Fetch from the first of the item's URLs that has the file."""
    try:
        return _fetch(item, target, session, task)
    except Gone as error:
        session.alive.add(server_of(item))
        if not item.fallbacks:
            raise FileGone(_failure(item, f"{error}, or {item.if_gone}")) from error
        url, *others = item.fallbacks
    except Refused as error:
        raise FetchError(_failure(item, str(error))) from error
    return _from_first(replace(item, url=url, fallbacks=tuple(others)), target, session, task)


def _on_wait(item: Download, session: Session) -> Callable[[], None]:
    reason = f"{item.filename}: waiting for another process that is fetching it"
    say = once(lambda: session.reporter.info(reason))

    def on_wait() -> None:
        if session.stop.is_set():
            raise Stopped
        say()

    return on_wait


def _fetch(item: Download, target: Path, session: Session, task: Task) -> Path:
    def on_chunk(gained: int) -> None:
        task.advance(gained)
        if session.stop.is_set():
            raise Stopped

    with Partial(target, on_chunk) as partial:
        try:
            _fill(item, partial, session)
        except _WrongContent as error:
            session.reporter.warn(f"{item.filename}: {error}; fetching it once more from the start")
            partial.reset()
            try:
                _fill(item, partial, session)
            except _WrongContent as again:
                partial.delete()
                raise FetchError(_failure(item, f"{again}; {_OTHER_FILE}")) from again
        return partial.finish(durable=session.durable)


def _fill(item: Download, partial: Partial, session: Session) -> None:
    """Append missing bytes until size and hash are right; raise _WrongContent if they differ."""
    failures, furthest = 0, partial.size
    while partial.sha256 != item.sha256 or partial.size == 0:
        if reason := session.silent.get(server_of(item)):
            raise (FetchError if session.alive else NothingCame)(_failure(item, reason))
        try:
            return _append_rest(item, partial, session)
        except Interrupted as error:
            if isinstance(error, RangeRefused):
                partial.reset()
            # Only progress counts: a server without ranges sends the same bytes again and again.
            gained = partial.size > furthest and not isinstance(error, Slow)
            failures = 0 if gained else failures + 1
            furthest = max(furthest, partial.size)
            _wait(item, error, failures, session)
    return None


def _append_rest(item: Download, partial: Partial, session: Session) -> None:
    if item.size is not None and partial.size >= item.size:
        partial.reset()  # as long as the file, but with other content
    with open_body(session.client, item.url, partial.size) as body:
        expected = _expected_size(item, body)
        if body.start == 0 and partial.size:
            partial.reset()
        for chunk in body.chunks:
            session.alive.add(server_of(item))
            partial.append(chunk)
            if expected is not None and partial.size > expected:
                raise _WrongContent(f"more than the expected {expected:,} bytes")
    if expected is not None and partial.size < expected:
        raise Interrupted(f"the connection ended after {partial.size:,} of {expected:,} bytes")
    if partial.sha256 != item.sha256:
        raise _WrongContent(f"SHA-256 is {partial.sha256}, expected {item.sha256}")


def _expected_size(item: Download, body: Body) -> int | None:
    if item.size is not None and body.total is not None and item.size != body.total:
        # Final, and before received bytes are discarded: it may be a login page.
        raise Refused(
            f"the server's file has {body.total:,} bytes, expected {item.size:,}; {_OTHER_FILE}"
        )
    return body.total if item.size is None else item.size


def _wait(item: Download, error: Interrupted, failures: int, session: Session) -> None:
    """Sleep before the next attempt; FetchError if there is none, Stopped if told to stop."""
    try:
        session.pause(item, error, failures)
    except GaveUp as reason:
        server = server_of(item)
        if error.wait is None and server not in session.alive:
            session.silent[server] = str(reason)
        kind = FetchError if session.alive or error.wait is not None else NothingCame
        raise kind(_failure(item, str(reason))) from error


def _failure(item: Download, reason: str) -> str:
    return f"{item.filename} from {redact(item.url)}: {reason}"
