"""The only HTTP client: trust, proxies, time-outs, and a file's bytes from any offset on."""

from __future__ import annotations

import logging
import re
import ssl
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx
import truststore

from wheelyard.errors import SettingsError
from wheelyard.fetching.guard import FILE, Guard
from wheelyard.fetching.logins import mirror_logins
from wheelyard.fetching.replies import (
    Gone,
    RangeRefused,
    Refused,
    status_failure,
    transport_failure,
)
from wheelyard.settings import Settings
from wheelyard.system.urls import redact

_CHUNK = 1 << 20  # bytes, of local files
_PAGE = 64 << 20  # bytes: a project with ten thousand files has a page of ten million

_log = logging.getLogger(__name__)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Body:
    """A file's bytes from `start` on; `total` is the whole file's size if the server states it."""

    start: int
    total: int | None
    chunks: Iterator[bytes]


def make_client(
    settings: Settings, connections: int = 8, auth: httpx.Auth | None = None
) -> httpx.Client:
    """Make a client that trusts the system's CAs (SSL_CERT_FILE included) and `settings.ca_bundle`.

    Proxies come from the environment (HTTPS_PROXY, NO_PROXY, ...), credentials from `auth`, else
    from the mirrors' URLs and netrc. Raises SettingsError for a proxy that cannot be used.
    """
    try:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        return httpx.Client(
            transport=Guard(_ssl_context(settings.ca_bundle), limits),
            timeout=httpx.Timeout(settings.timeout, pool=None),
            follow_redirects=False,  # `auth` follows them, and drops logins where needed
            auth=auth or mirror_logins(settings),
            headers={"User-Agent": f"wheelyard/{_version()}", "Accept-Encoding": "identity"},
        )
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise SettingsError(
            "the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be used; "
            "write it as http://host:port"
        ) from error


def _ssl_context(ca_bundle: Path | None) -> ssl.SSLContext:
    """Verify against the system's trust store and, if given, `ca_bundle` (PEM)."""
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_bundle is not None:
        context.load_verify_locations(cafile=ca_bundle)
    return context


@contextmanager
def open_body(
    client: httpx.Client, url: str, offset: int, length: int | None = None
) -> Iterator[Body]:
    """Open the file at an http, https or file URL, from `offset` or, if need be, from 0.

    With `length`, the server is asked for that many bytes; it may send more. Raises Refused,
    Interrupted or RangeRefused, while opening and while reading.
    """
    _log.debug("GET %s from byte %d", redact(url), offset)
    source = (
        _open_file(url, offset)
        if urlsplit(url).scheme == "file"
        else _open_http(client, url, offset, length)
    )
    with source as body:
        yield body


def read_page(client: httpx.Client, url: str, accept: str) -> tuple[str, bytes]:
    """Return a page's content type and body; raise Refused, Gone or Interrupted."""
    _log.debug("GET %s", redact(url))
    headers = {"Accept": accept, "Accept-Encoding": "gzip"}
    try:
        response = client.get(url, headers=headers, extensions={"limit": _PAGE})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise transport_failure(error) from error
    if response.status_code != httpx.codes.OK:
        raise status_failure(response)
    return response.headers.get("Content-Type", "").partition(";")[0].strip(), response.content


@contextmanager
def _open_http(client: httpx.Client, url: str, offset: int, length: int | None) -> Iterator[Body]:
    end = "" if length is None else str(offset + length - 1)
    headers = {"Range": f"bytes={offset}-{end}"} if offset or end else {}
    bounds = {"limit": FILE, "raw": True}
    try:
        with client.stream("GET", url, headers=headers, extensions=bounds) as response:
            start, total = _extent(response, offset)
            # Pieces as they come: with a chunk size, a lost connection loses a part-filled chunk.
            yield Body(start, total, response.iter_raw())
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise transport_failure(error) from error


def _extent(response: httpx.Response, offset: int) -> tuple[int, int | None]:
    """Return where the body starts and how big the file is; raise without a usable body."""
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != offset:
            raise RangeRefused("the server sent another part of the file than asked for")
        return offset, None if match[3] == "*" else int(match[3])
    if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise RangeRefused("the server's file is shorter than the part that is already here")
    if response.status_code != httpx.codes.OK:
        raise status_failure(response)
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


@contextmanager
def _open_file(url: str, offset: int) -> Iterator[Body]:
    path = Path(url2pathname(urlsplit(url).path))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{path} is not a regular file")
        file = path.open("rb", buffering=0)
    except FileNotFoundError as error:
        raise Gone(f"{path}: {error.strerror}; check the mirror settings") from error
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}; check the mirror settings") from error
    with file:
        start = file.seek(offset if offset <= status.st_size else 0)
        yield Body(start, status.st_size, _chunks(path, file.read))


def _chunks(path: Path, read: Callable[[int], bytes | None]) -> Iterator[bytes]:
    try:
        while chunk := read(_CHUNK):
            yield chunk
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error


def _version() -> str:
    try:
        return version("wheelyard")
    except PackageNotFoundError:  # run from a folder that is not installed
        return "0"
