"""Reads projects' pages from an index: one page each, several in parallel, all untrusted."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from wheelyard.errors import FetchError
from wheelyard.fetching.patience import GaveUp, Patience, patiently
from wheelyard.fetching.replies import Gone, Interrupted, Refused
from wheelyard.fetching.transport import read_page
from wheelyard.lock.upstream.listing import ACCEPT, IndexFile, parse_listing
from wheelyard.system.threads import each
from wheelyard.system.urls import redact

if TYPE_CHECKING:
    import httpx

    from wheelyard.console.tasks import Task

CONNECTIONS = 8
_PATIENCE = Patience(attempts=4, longest_retry_after=10.0)


def read_listing(client: httpx.Client, index: str, project: str) -> tuple[IndexFile, ...] | None:
    """Return the files that `index` lists for `project`; None if it has no such project.

    Raises FetchError if the index cannot be reached, or answers with anything but a page.
    """
    url = f"{index.rstrip('/')}/{canonicalize_name(project)}/"
    try:
        content_type, body = patiently(lambda: read_page(client, url, ACCEPT), _pause)
    except Gone:
        return None
    except (Refused, GaveUp) as problem:
        raise FetchError(f"asking the index for {project} ({redact(url)}): {problem}") from problem
    try:
        return parse_listing(content_type, body, url)
    except ValueError as problem:
        raise FetchError(
            f"{redact(url)}: the index's answer for {project} is not a project page: {problem};"
            " check --index-url"
        ) from problem


def read_listings(
    client: httpx.Client, index: str, projects: Iterable[str], task: Task
) -> dict[str, tuple[IndexFile, ...] | None]:
    """Read several projects in parallel; the first failure ends it with its error."""
    names = sorted(set(projects))

    def one(name: str) -> tuple[IndexFile, ...] | None:
        listing = read_listing(client, index, name)
        task.advance(1)
        return listing

    return dict(zip(names, each(one, names, CONNECTIONS, "index"), strict=True))


def _pause(problem: Interrupted, failures: int) -> None:
    try:
        time.sleep(_PATIENCE.next_wait(problem, failures))
    except GaveUp as reason:
        raise GaveUp(f"{reason}; {problem.advice}" if problem.advice else str(reason)) from problem
