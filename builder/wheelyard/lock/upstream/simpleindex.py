"""Asking an index about projects: one page each, several at a time, nothing taken on trust."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from wheelyard.errors import FetchError
from wheelyard.fetching.replies import Gone, Interrupted, Refused
from wheelyard.fetching.transport import read_page
from wheelyard.lock.upstream.listing import ACCEPT, IndexFile, parse_listing
from wheelyard.system.urls import redact

if TYPE_CHECKING:
    import httpx

    from wheelyard.console.tasks import Task

_ATTEMPTS = 4
CONNECTIONS = 8
_LONGEST_WAIT = 10.0  # seconds between two attempts


def read_listing(client: httpx.Client, index: str, project: str) -> tuple[IndexFile, ...] | None:
    """Return the files that `index` lists for `project`; None where it has no such project.

    Raises FetchError when the index cannot be asked, or answers with something else than a page.
    """
    url = f"{index.rstrip('/')}/{canonicalize_name(project)}/"
    try:
        content_type, body = _patiently(client, url)
    except Gone:
        return None
    except (Refused, Interrupted) as problem:
        raise FetchError(f"asking the index for {project} ({redact(url)}): {problem}") from problem
    try:
        return parse_listing(content_type, body, url)
    except ValueError as problem:
        raise FetchError(
            f"{redact(url)}: what the index answers for {project} is no project page: {problem};"
            " check --index-url"
        ) from problem


def read_listings(
    client: httpx.Client, index: str, projects: Iterable[str], task: Task
) -> dict[str, tuple[IndexFile, ...] | None]:
    """Ask for several projects at once; the first that fails ends it with its error."""
    names = sorted(set(projects))

    def one(name: str) -> tuple[IndexFile, ...] | None:
        found = read_listing(client, index, name)
        task.advance(1)
        return found

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


def _patiently(client: httpx.Client, url: str) -> tuple[str, bytes]:
    for attempt in range(1, _ATTEMPTS):
        try:
            return read_page(client, url, ACCEPT)
        except Interrupted as problem:
            wait = 0.2 * 2**attempt if problem.wait is None else problem.wait
            time.sleep(min(wait, _LONGEST_WAIT))
    return read_page(client, url, ACCEPT)
