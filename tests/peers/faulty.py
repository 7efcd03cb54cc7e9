"""A proxy between a client and a registry that drops, refuses, truncates and dawdles when told."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

# drop: the connection ends inside the request's body; the registry sees half of it.
# mute: the registry does it, and its answer is lost. flip: a byte of the body changes.
# unmounted: asked to mount a blob, the registry begins an upload, as one that cannot mount does.
Fault = Literal["drop", "mute", "flip", "slow", "unmounted", "429", "500", "503"]


@dataclass
class Faulty:
    """What goes wrong: (method, words in the path, fault), each once unless `always`."""

    upstream: str  # host:port
    faults: list[tuple[str, str, Fault]] = field(default_factory=list)
    always: bool = False
    begun: list[tuple[str, str]] = field(default_factory=list)  # method, path; no body read yet
    requests: list[tuple[str, str, int]] = field(default_factory=list)  # method, path, body bytes
    answers: list[tuple[str, str, int]] = field(default_factory=list)  # method, path, status
    address: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for entry in self.faults:
                if entry[0] == method and entry[1] in path:
                    if not self.always:
                        self.faults.remove(entry)
                    return entry[2]
        return None

    def sent_bytes(self) -> int:
        """Of all bodies that clients sent."""
        return sum(size for _method, _path, size in self.requests)


@contextmanager
def faulty(upstream: str) -> Iterator[Faulty]:
    """Stand before `upstream` on a port of our own."""
    state = Faulty(upstream)

    class Handler(_Handler):
        proxy = state

    server = _Quiet(("127.0.0.1", 0), Handler)
    state.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    proxy: Faulty
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _forward(self) -> None:
        fault = self.proxy.fault(self.command, self.path)
        self.proxy.begun.append((self.command, self.path))
        length = int(self.headers.get("Content-Length") or 0)
        if fault in ("429", "500", "503"):
            self.rfile.read(length)
            self._status(int(fault))
            return
        if fault == "slow":
            time.sleep(0.5)
        body = self._body(length, fault)
        path = self.path.partition("?")[0] if fault == "unmounted" else self.path
        gone = len(body) < length  # the client, or the connection
        upstream = http.client.HTTPConnection(self.proxy.upstream, timeout=30)
        try:
            upstream.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders()
            upstream.send(body)
            if gone:
                self.close_connection = True
                return
            self._answer(upstream.getresponse(), mute=fault == "mute")
        finally:
            upstream.close()

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):  # every method alike
            return self._forward
        raise AttributeError(name)

    def _body(self, length: int, fault: Fault | None) -> bytes:
        body = self.rfile.read(length // 2 if fault == "drop" else length)
        self.proxy.requests.append((self.command, self.path, len(body)))
        if fault == "flip" and body:
            return body[:-1] + bytes([body[-1] ^ 1])
        return body

    def _status(self, code: int) -> None:
        self.proxy.answers.append((self.command, self.path, code))
        self.send_response(code)
        if code == 429:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, response: http.client.HTTPResponse, *, mute: bool) -> None:
        content = response.read()
        self.proxy.answers.append((self.command, self.path, response.status))
        if mute:
            self.close_connection = True
            return
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() != "transfer-encoding":
                self.send_header(name, value)
        if response.getheader("Content-Length") is None:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
