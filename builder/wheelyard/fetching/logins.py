"""Which login each server gets, and which of it a redirect may keep.

A mirror's login, given in its URL, is used for all files there.
"""

from __future__ import annotations

from collections.abc import Generator
from netrc import NetrcParseError

import httpx

from wheelyard.fetching.replies import Refused
from wheelyard.settings import Settings

Origin = tuple[str, str, int | None]
_REDIRECTS = 10


class Logins(httpx.Auth):
    """The login of the mirror with the request's scheme, host and port; else netrc's.

    A login in the request's own URL wins over both. An index names its files without its login.
    pip and uv send it to the same origin only, too.
    """

    def __init__(self, urls: list[str]) -> None:
        self._mirrors = {
            origin(url): httpx.BasicAuth(url.username, url.password)
            for url in map(httpx.URL, urls)
            if url.username or url.password
        }
        self._netrc = _netrc()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Yield the request with its login, as httpx expects."""
        login = self._mirrors.get(origin(request.url)) or self._netrc
        if request.url.username or request.url.password:
            login = httpx.BasicAuth(request.url.username, request.url.password)
        if login is not None:
            next(login.auth_flow(request))
        yield from follow(request)


def follow(
    request: httpx.Request, *, leave: bool = True
) -> Generator[httpx.Request, httpx.Response, tuple[httpx.Response, httpx.Request]]:
    """Yield a request and those of its redirects; return the last reply and its request.

    Headers with a login stay with their origin (httpx drops them from the next request); with
    `leave=False` no request goes to another origin. Raises Refused for a redirect that is not
    followed.
    """
    for _ in range(_REDIRECTS + 1):
        reply = yield request
        following = reply.next_request
        if following is None:
            return reply, request
        refused = _refusal(request.url, following.url, leave=leave)
        if refused:
            raise Refused(f"{request.url.host} redirects to {following.url.host}: {refused}")
        request = following
    raise Refused(f"{request.url.host}: more than {_REDIRECTS} redirects")


def _refusal(before: httpx.URL, after: httpx.URL, *, leave: bool) -> str | None:
    """Say why a redirect is not followed; None if it is."""
    if after.scheme not in ("http", "https"):
        return "that is not a web address"
    if before.scheme == "https" and after.scheme != "https":
        return "without TLS, so the content could be read or changed on the way"
    if not leave and origin(before) != origin(after):
        return "a login is not sent on to another server"
    return None


def mirror_logins(settings: Settings) -> Logins:
    """Return the logins in the settings' mirrors."""
    urls = (
        settings.index_url,
        settings.debian_mirror,
        settings.debian_security_mirror,
        settings.debian_snapshot,
        *(url for _, url in settings.indexes),
    )
    return Logins([url for url in urls if url is not None])


def origin(url: httpx.URL) -> Origin:
    """Return scheme, host and port, to which a login is bound."""
    return url.scheme, url.host, url.port


def _netrc() -> httpx.NetRCAuth | None:
    try:
        return httpx.NetRCAuth()
    except (OSError, NetrcParseError):
        return None
