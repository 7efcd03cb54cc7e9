"""URLs that people type: checked before use, and shown without their secrets."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

_SCHEMES = ("http", "https", "file")

_USERINFO = re.compile(r"(?<=//)[^/?#]*@")
_ANYTHING_BEFORE_AT = re.compile(r"(?<=//).*@", re.DOTALL)
_QUERY = re.compile(r"\?[^#]*")
_PARTS = re.compile(r"((?:[^:/?#]*:)?(?://[^/?#]*)?)([^?#]*)(.*)", re.DOTALL)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>`\\]+", re.IGNORECASE)
_RUN = re.compile(r"[A-Za-z0-9]+")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DIGEST = re.compile(r"sha256[:-][0-9a-f]{64}")
_FILES = (".whl", ".deb", ".gz", ".xz", ".zip", ".tar", ".json", ".html", ".metadata")
_TOKEN = 16  # more letters and digits in a row than any name has


def redact(url: str) -> str:
    """Replace the secrets in `url`, well-formed or not, by `***`.

    Secrets are user name and password, the query, and what looks like a token in the path.
    """
    userinfo = _USERINFO if _has_valid_host(url) else _ANYTHING_BEFORE_AT
    start, path, rest = _PARTS.match(_QUERY.sub("?***", userinfo.sub("***@", url))).groups()  # type: ignore[union-attr]
    return start + "/".join(map(_redact_part, path.split("/"))) + rest


def redact_text(text: str) -> str:
    """Replace the secrets of all URLs in `text`."""
    return _URL.sub(lambda found: redact(found[0]), text)


def _redact_part(part: str) -> str:
    """Replace a path part by `***` if it looks like a token: long, of letters and digits."""
    if _DIGEST.search(part) or part.lower().endswith(_FILES):
        return part
    run = max(_RUN.findall(part), key=len, default="")
    mixed = any(c.isdigit() for c in run) and any(c.isalpha() for c in run)
    return "***" if _UUID.search(part) or (mixed and len(run) >= _TOKEN) else part


def plain(url: str) -> str:
    """Return `url` decoded and without user name and password, for comparisons only.

    Programs print URLs with other %-escapes than they were given.
    """
    return unquote(_USERINFO.sub("", url))


def url_problem(url: str) -> str | None:
    """Say why `url` cannot be used, without its secrets; None if it can."""
    shown = repr(redact(url))
    if any(character.isspace() or not character.isprintable() for character in url):
        return f"{shown} holds a blank or a control character"
    if not _has_valid_host(url):
        return f"{shown} is not a valid URL: check host and port, and %-encode a password"
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        return f"{shown} is not a URL that starts with http://, https:// or file://"
    if parts.scheme == "file":
        local = parts.netloc in ("", "localhost") and parts.path.startswith("/")
        return None if local else f"{shown} must be file:// and an absolute path"
    return None if parts.hostname else f"{shown} names no host"


def _has_valid_host(url: str) -> bool:
    """Reject a password with a bare `/`, `?` or `#`, which would end up in host, port or path."""
    try:
        _ = urlsplit(url).port
    except ValueError:
        return False
    return True
