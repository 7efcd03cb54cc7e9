"""URLs that people type: checked before use, and shown without their secrets."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

SCHEMES = ("http", "https", "file")

_USERINFO = re.compile(r"(?<=//)[^/?#]*@")
_ANYTHING_BEFORE_AT = re.compile(r"(?<=//).*@", re.DOTALL)
_QUERY = re.compile(r"\?[^#]*")


def redact(url: str) -> str:
    """`url` with user name, password and query replaced by `***`, well-formed or not."""
    userinfo = _USERINFO if _has_valid_host(url) else _ANYTHING_BEFORE_AT
    return _QUERY.sub("?***", userinfo.sub("***@", url))


def plain(url: str) -> str:
    """`url` decoded and without user name and password, for comparisons only.

    Programs give URLs back with other %-escapes than they were given.
    """
    return unquote(_USERINFO.sub("", url))


def url_problem(url: str) -> str | None:
    """Why `url` cannot be used, without its secrets; None when it can."""
    shown = repr(redact(url))
    if any(character.isspace() or not character.isprintable() for character in url):
        return f"{shown} holds a blank or a control character"
    if not _has_valid_host(url):
        return f"{shown} is not a valid URL: check host and port, and %-encode a password"
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        return f"{shown} is not a URL that starts with http://, https:// or file://"
    if parts.scheme == "file":
        local = parts.netloc in ("", "localhost") and parts.path.startswith("/")
        return None if local else f"{shown} must be file:// and an absolute path"
    return None if parts.hostname else f"{shown} names no host"


def _has_valid_host(url: str) -> bool:
    """False where a bare `/`, `?` or `#` in a password would end up in host, port or path."""
    try:
        _ = urlsplit(url).port
    except ValueError:
        return False
    return True
