"""A transport for every request: the proxy for its host, and limits on the reply.

A reply that is read into memory has a limit (`extensions={"limit": bytes}`), is either decompressed
or refused, and must not arrive too slowly. Files (`"raw"`) are written to disk as they arrive, and
are hashed.
"""

from __future__ import annotations

import ipaddress
import time
import zlib
from typing import TYPE_CHECKING
from urllib.request import getproxies

import httpx

from wheelyard.fetching.replies import RefusedReply, SlowReply

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

SMALL = 1 << 20  # bytes: tokens, and requests that set no limit
FILE = 1 << 36  # bytes: of a wheel or layer of unknown size
_LEAST = 1 << 10  # bytes a second, over the whole of a reply
_PIECE = 1 << 16
_SUCCESS = range(200, 300)


class Guard(httpx.BaseTransport):
    """Transports by scheme and host, with limits on their replies."""

    def __init__(
        self,
        context: ssl.SSLContext,
        limits: httpx.Limits,
        find_proxies: Callable[[], Mapping[str, str]] = getproxies,
    ) -> None:
        """Raise ValueError, ImportError or httpx.InvalidURL for a proxy that cannot be used."""
        proxies = find_proxies()
        self._except = proxies.get("no", "")
        self._direct = httpx.HTTPTransport(verify=context, limits=limits)
        self._proxied = {
            scheme: httpx.HTTPTransport(
                verify=context, limits=limits, proxy=_proxy(proxies[scheme])
            )
            for scheme in ("http", "https", "all")
            if proxies.get(scheme)
        }

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; raise httpx.TransportError, such as RefusedReply and SlowReply."""
        response = self._transport(request.url).handle_request(request)
        try:
            _bound(request, response)
        except RefusedReply:
            response.close()
            raise
        return response

    def close(self) -> None:
        """Close every connection."""
        for transport in (self._direct, *self._proxied.values()):
            transport.close()

    def _transport(self, url: httpx.URL) -> httpx.HTTPTransport:
        proxied = self._proxied.get(url.scheme) or self._proxied.get("all")
        if proxied is None or bypasses(self._except, url.host, url.port):
            return self._direct
        return proxied


def bypasses(listed: str, host: str, port: int | None = None) -> bool:
    """Tell whether NO_PROXY's list covers a host: by name, domain, network, or `*`."""
    return any(
        _names(entry, host.lower(), port) for entry in listed.lower().replace(",", " ").split()
    )


def _names(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    entry = entry.partition("://")[2] or entry
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    else:
        return _is_in(host, network)
    name, _, wanted = entry.rpartition(":")
    if name and wanted.isdigit():
        return port == int(wanted) and _names(name, host, port)
    if entry.startswith(("*.", ".")):
        return host.endswith(entry.removeprefix("*"))
    return host == entry or host.endswith(f".{entry}")


def _is_in(host: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")) in network
    except ValueError:
        return False


def _proxy(url: str) -> httpx.Proxy:
    return httpx.Proxy(url if "://" in url else f"http://{url}")


def _bound(request: httpx.Request, response: httpx.Response) -> None:
    """Limit the body of a reply."""
    wanted = request.extensions
    limit = int(wanted.get("limit", SMALL))
    patience = (wanted.get("timeout") or {}).get("read") or 30.0
    stream = response.stream
    assert isinstance(stream, httpx.SyncByteStream)  # noqa: S101 - a synchronous transport's
    if response.status_code not in _SUCCESS:  # an error text for people is truncated
        response.headers.pop("Content-Encoding", None)
        response.stream = _Bounded(stream, min(limit, SMALL), patience, cut=True)
        return
    length = response.headers.get("Content-Length", "")
    if request.method != "HEAD" and length.isdigit() and int(length) > limit:
        raise RefusedReply(_too_much(limit))
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    response.stream = _Bounded(stream, limit, patience)
    if encoding == "identity" or wanted.get("raw") or request.method == "HEAD":
        return
    if encoding != "gzip" or "gzip" not in request.headers.get("Accept-Encoding", ""):
        raise RefusedReply(f"the server compressed its reply ({encoding[:40]}) unasked")
    for header in ("Content-Encoding", "Content-Length"):
        response.headers.pop(header, None)
    response.stream = _Bounded(_Unpacked(response.stream), limit, patience)


def _too_much(limit: int) -> str:
    return f"the server sends more than {limit:,} bytes, which is too much for this request"


class _Bounded(httpx.SyncByteStream):
    """A body that raises RefusedReply, or with `cut` ends, at its limit; SlowReply if too slow."""

    def __init__(
        self, stream: httpx.SyncByteStream, limit: int, patience: float, *, cut: bool = False
    ) -> None:
        self._stream, self._limit, self._patience, self._cut = stream, limit, patience, cut

    def __iter__(self) -> Iterator[bytes]:
        came, waited, asked = 0, 0.0, time.monotonic()
        for chunk in self._stream:
            came += len(chunk)
            waited += time.monotonic() - asked
            if came > self._limit:
                if self._cut:
                    return
                raise RefusedReply(_too_much(self._limit))
            if waited > self._patience and came < _LEAST * waited:
                raise SlowReply(f"only {came:,} bytes arrived in {waited:.0f} s")
            yield chunk
            asked = time.monotonic()

    def close(self) -> None:
        self._stream.close()


class _Unpacked(httpx.SyncByteStream):
    """A gzip file's content, in pieces whose size the server does not control."""

    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        inflater = zlib.decompressobj(wbits=31)
        try:
            for chunk in self._stream:
                left = chunk
                while left and not inflater.eof:
                    yield inflater.decompress(left, _PIECE)
                    left = inflater.unconsumed_tail
        except zlib.error as error:
            raise RefusedReply(f"the server's gzip is damaged: {error}") from error
        if not inflater.eof:
            raise SlowReply("the connection ended inside a compressed reply")

    def close(self) -> None:
        self._stream.close()
