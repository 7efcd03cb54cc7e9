"""Who we are for which server: a mirror's login, given in its URL, counts for all files there."""

from __future__ import annotations

from collections.abc import Generator
from netrc import NetrcParseError
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from builder.settings import Settings

Origin = tuple[str, str, int | None]


class Logins(httpx.Auth):
    """The login of the mirror with the request's scheme, host and port; else netrc's.

    An index names its files without its login. pip and uv send it to the same origin only, too.
    """

    def __init__(self, urls: list[str]) -> None:
        self._mirrors = {
            origin(url): httpx.BasicAuth(url.username, url.password)
            for url in map(httpx.URL, urls)
            if url.username or url.password
        }
        self._netrc = _netrc()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Yield the request with its login, as httpx wants it."""
        login = self._mirrors.get(origin(request.url)) or self._netrc
        if login is None:
            yield request
        else:
            yield from login.auth_flow(request)


def mirror_logins(settings: Settings) -> Logins:
    """The logins that stand in the settings' mirrors."""
    urls = (
        settings.index_url,
        settings.debian_mirror,
        settings.debian_security_mirror,
        settings.debian_snapshot,
        *(url for _, url in settings.indexes),
    )
    return Logins([url for url in urls if url is not None])


def origin(url: httpx.URL) -> Origin:
    """Scheme, host and port: what a login is bound to."""
    return url.scheme, url.host, url.port


def _netrc() -> httpx.NetRCAuth | None:
    try:
        return httpx.NetRCAuth()
    except (OSError, NetrcParseError):
        return None
