"""A company's mirror: a Python index and a Debian archive behind HTTPS, a private CA and a login.

The Debian archive passes through what the tests do not have at hand; the index holds what it is
given. Faults are made to order, by the end of a path.
"""

from __future__ import annotations

import base64
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import httpx
import trustme

if TYPE_CHECKING:
    from tests.peers.island import Place

HOST = "127.83.19.7"  # loopback too, but found nowhere else
USER, PASSWORD = "korrekt-mustermann", "p%C3%A4ss-5xq7"  # %-encoded, as in a URL
LOGIN = base64.b64encode(f"{USER}:päss-5xq7".encode()).decode()
Fault = Literal["404", "drop", "stall"]


@dataclass
class Mirror:
    """What is served under which path, what goes wrong, and what was asked for."""

    files: Mapping[str, Path | bytes]
    upstream: Mapping[str, str]  # first folder -> URL of the archive behind it
    ca: trustme.CA
    host: str = HOST
    port: int = 0
    faults: dict[str, list[Fault]] = field(default_factory=dict)  # end of a path -> one a request
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def base(self) -> str:
        return f"https://{USER}:{PASSWORD}@{self.host}:{self.port}"

    @property
    def settings(self) -> dict[str, str]:
        """The mirrors by the name of their setting."""
        return {"index-url": f"{self.base}/simple/", "debian-mirror": f"{self.base}/debian"}

    @property
    def secrets(self) -> list[bytes]:
        """What no file and no log may hold: who logs in, and whose certificates are trusted."""
        body = self.ca.cert_pem.bytes().decode().splitlines()[1:-1]
        return [text.encode() for text in (USER, PASSWORD, "päss-5xq7", LOGIN, body[2], body[-2])]

    @property
    def address(self) -> list[bytes]:
        return [self.host.encode(), f":{self.port}".encode()]

    def fault(self, path: str) -> Fault | None:
        """The next fault for a request of `path`."""
        ordered = next((x for end, x in self.faults.items() if path.endswith(end)), [])
        return ordered.pop(0) if ordered else None


@contextmanager
def serve(mirror: Mirror, place: Place) -> Iterator[Mirror]:
    """Serve on the island while the context lasts; a second call takes the same port again."""

    behind = httpx.Client(timeout=60, follow_redirects=True)

    class Handler(_Handler):
        state = mirror
        client = behind

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    mirror.ca.issue_cert(mirror.host, "localhost").configure_cert(context)
    server = place.call(lambda: _Server((mirror.host, mirror.port), Handler))
    # Handshakes belong into the threads of the connections: one that waits must not stop all.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    mirror.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield mirror
    finally:
        mirror.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
        behind.close()
        mirror.released.clear()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away, or does not trust us, is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Mirror
    client: httpx.Client

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self._answer(head=True)

    def do_GET(self) -> None:
        self._answer(head=False)

    def _answer(self, *, head: bool) -> None:
        path, asked = self.path.partition("?")[0], self.headers.get("Range")
        if self.headers.get("Authorization") != f"Basic {LOGIN}":
            self._send(401, b"", {"WWW-Authenticate": 'Basic realm="mirror"'})
            return
        self.state.requests.append((path, asked))
        fault = None if head else self.state.fault(path)
        body = None if fault == "404" else self._content(path)
        if body is None:
            self._send(404, b"not here")
        elif asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = _extent(first, last, len(body))
            extent = {"Content-Range": f"bytes {start}-{end - 1}/{len(body)}"}
            self._send(206, body[start:end], extent, fault, head=head)
        else:
            self._send(200, body, {}, fault, head=head)

    def _content(self, path: str) -> bytes | None:
        found = self.state.files.get(path)
        if found is not None:
            return found if isinstance(found, bytes) else found.read_bytes()
        top, _, rest = path.lstrip("/").partition("/")
        if top not in self.state.upstream:
            return None
        reply = self.client.get(f"{self.state.upstream[top]}/{rest}")
        return reply.content if reply.is_success else None

    def _send(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str] = {},
        fault: Fault | None = None,
        *,
        head: bool = False,
    ) -> None:
        self.send_response(status)
        kind = "text/html" if self.path.endswith("/") else "application/octet-stream"
        for name, value in {**headers, "Content-Type": kind, "Accept-Ranges": "bytes"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            if not head:
                self.wfile.write(body[: len(body) // 2] if fault else body)
            if fault == "stall":
                self.state.released.wait(60)
        if fault:
            self.close_connection = True


def _extent(first: str, last: str, size: int) -> tuple[int, int]:
    """First byte and the one after the last (RFC 9110, 14.1.2)."""
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
