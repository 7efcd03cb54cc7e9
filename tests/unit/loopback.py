"""A real HTTP server on loopback that serves files, and misbehaves where a test tells it to."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Fault = Literal[
    "none", "drop", "truncate", "500", "429", "404", "403", "416", "stall", "wrong-range", "other"
]


@dataclass
class Server:
    """What is served, what goes wrong (one fault a request, then none), and what was asked."""

    files: dict[str, bytes]
    faults: list[Fault] = field(default_factory=list)
    always: Fault = "none"
    ranges: bool = True
    other: bytes = b""  # the body of the fault "other"
    retry_after: str = "0"
    pace: float = 0.0  # seconds before each 64 KiB
    sized: bool = True  # send Content-Length
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serve(server: Server, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Run `server` on a free port of 127.0.0.1 while the context lasts."""

    class Handler(_Handler):
        state = server

    http = _Quiet(("127.0.0.1", 0), Handler)
    if tls is not None:
        http.socket = tls.wrap_socket(http.socket, server_side=True)
    scheme, host = ("http", "127.0.0.1") if tls is None else ("https", "localhost")
    server.url = f"{scheme}://{host}:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        http.shutdown()
        http.server_close()
        thread.join()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    state: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.state.requests.append((self.path, asked))
        fault = self.state.faults.pop(0) if self.state.faults else self.state.always
        if fault in ("500", "429", "404", "403", "416"):
            self._status(int(fault))
            return
        body = self.state.other if fault == "other" else self.state.files[self.path]
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.state.ranges else 0
        self._head(body, start, asked, fault)
        self._body(body[start:], fault)

    def _status(self, code: int) -> None:
        self.send_response(code)
        if code == 429:
            self.send_header("Retry-After", self.state.retry_after)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _head(self, body: bytes, start: int, asked: str | None, fault: Fault) -> None:
        partial = bool(asked) and self.state.ranges
        self.send_response(206 if partial else 200)
        if partial:
            first = start + 1 if fault == "wrong-range" else start
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        if self.state.sized and fault != "truncate":
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()

    def _body(self, rest: bytes, fault: Fault) -> None:
        if fault in ("drop", "truncate", "stall"):
            rest = rest[: len(rest) // 2]
        for at in range(0, len(rest), 65536):
            if self.state.pace:
                time.sleep(self.state.pace)
            self.wfile.write(rest[at : at + 65536])
        if fault == "stall":
            self.wfile.flush()
            self.state.released.wait(30)
        self.close_connection = True
