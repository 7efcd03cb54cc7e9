"""A Python index and a Debian archive of locked files, served to the RUN steps of one build.

Wheels come through this machine's own cache, CA, index, mirrors and logins; an engine learns only
an address on this machine. It is in /etc/hosts of the build's containers, which engines create for
each: no image and no history ever contains it. For BuildKit the name (not the address) is part of a
step, so a project keeps its name, and cached steps stay valid.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from wheelyard.dockerfiles.prefetched import PrefetchedFiles
from wheelyard.errors import WheelyardError
from wheelyard.model import LockedDeb, LockedWheel
from wheelyard.settings import Settings
from wheelyard.system.storage import remove
from wheelyard.system.textfiles import write_text
from wheelyard.system.threads import Helper

LOOPBACK = "127.0.0.1"
_CONTEXTS = "contexts"
CONNECTIONS = 64  # at once; uv asks with 50, apt with a few
PATIENCE = 20.0  # seconds that a connection may be idle
_POLL = 0.05  # seconds until it notices that it is to end
_SLOWEST = 300.0  # seconds that a piece of an answer may take to leave: an engine's disk is busy
_CONTENT_TYPES = {"simple": "text/html", _CONTEXTS: "application/x-tar"}
NAME = "wheelhouse.json"  # port and token


@dataclass(slots=True)
class Content:
    """What is served, and where it comes from."""

    files: PrefetchedFiles
    wheels: Sequence[LockedWheel]
    debs: Sequence[LockedDeb]
    stanza: Callable[[LockedDeb, Path, str], str]  # a package's entry of the archive's index
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    def project_page(self, name: str) -> bytes | None:
        """Return a project's page in the simple repository API; None for an unknown project."""
        links = [
            f'<a href="../../files/{w.sha256}/{escape(w.filename)}#sha256={w.sha256}">'
            f"{escape(w.filename)}</a>"
            for w in self.wheels
            if w.name == name
        ]
        return "\n".join(["<!DOCTYPE html>", *links]).encode() if links else None

    def packages(self) -> bytes:
        """Return the archive's index; wait until every package is there."""
        stanzas = (
            self.stanza(deb, self.files.path(deb.sha256), f"{deb.sha256}/{_name(deb)}")
            for deb in self.debs
        )
        return "\n".join(stanzas).encode()


def _name(deb: LockedDeb) -> str:
    return deb.path.rpartition("/")[2]


class Server(ThreadingHTTPServer):
    """The HTTP server; every connection has a thread, and there are at most CONNECTIONS.

    An idle connection is closed after PATIENCE, and sooner if another one needs its place.
    """

    daemon_threads = True
    request_queue_size = 2 * CONNECTIONS  # the default of five is filled by uv at once

    def __init__(self, content: Content, port: int) -> None:
        self.content = content
        self.contexts: dict[str, bytes] = {}  # by SHA-256
        self._connections: dict[socket.socket, float | None] = {}  # idle since
        self._lock = threading.Lock()
        super().__init__((LOOPBACK, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection; if there are too many, close the longest idle one."""
        with self._lock:
            if len(self._connections) >= CONNECTIONS:
                idle = {x: since for x, since in self._connections.items() if since is not None}
                if not idle:
                    request.close()
                    return
                longest = min(idle, key=idle.__getitem__)
                _hang_up(longest)
                self._connections[longest] = None  # it is going
            self._connections[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Close idle connections; called many times a second."""
        with self._lock:
            late = time.monotonic() - PATIENCE
            for connection, since in self._connections.items():
                if since is not None and since < late:
                    _hang_up(connection)

    def busy(self, connection: socket.socket, busy: bool) -> None:
        """Mark a connection as busy while its request is answered."""
        with self._lock:
            if connection in self._connections:
                self._connections[connection] = None if busy else time.monotonic()

    @property
    def host_name(self) -> str:
        """The name whose line in /etc/hosts gives a RUN step port and path."""
        return f"wheelhouse-{self.server_port}-{self.content.token}"

    def lay_out(self, context: bytes) -> str:
        """Serve the context of a build, a tar; return its address."""
        name = hashlib.sha256(context).hexdigest()
        self.contexts[name] = context
        return f"http://{LOOPBACK}:{self.server_port}/{self.content.token}/{_CONTEXTS}/{name}.tar"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that hang up."""


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # its thread sees the end, and closes it
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _SLOWEST
    server: Server

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.busy(self.connection, True)
        try:
            self._get()
        finally:
            self.server.busy(self.connection, False)

    def _get(self) -> None:
        token, _, path = unquote(self.path).strip("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.server.content.token.encode()):
            self.send_error(404)
            return
        kind, _, rest = path.partition("/")
        if kind not in ("", _CONTEXTS):
            self.server.content.files.start()  # not before: a cached build requests nothing
        try:
            self._answer(kind, rest.removeprefix("./"))
        except WheelyardError as error:
            self.send_error(502, "not available", str(error))

    def _answer(self, kind: str, rest: str) -> None:
        content = self.server.content
        sha256 = rest.partition("/")[0]
        page: bytes | None = None if kind else b"wheelhouse\n"
        if kind == _CONTEXTS:
            page = self.server.contexts.get(rest.removesuffix(".tar"))
        elif kind == "simple":
            page = content.project_page(rest)
        elif kind == "debian" and rest == "Packages":
            page = content.packages()
        elif kind in ("files", "debian") and sha256 in content.files.by_hash:
            self._file(sha256)
            return
        if page is None:
            self.send_error(404)
            return
        self._head(len(page), _CONTENT_TYPES.get(kind, "text/plain"))
        if self.command == "GET":
            self.wfile.write(page)

    def _file(self, sha256: str) -> None:
        files = self.server.content.files
        size = files.by_hash[sha256].size
        chunks = files.read(sha256) if self.command == "GET" else None
        self._head(size, "application/octet-stream")
        if chunks is None:
            return
        sent = 0
        try:
            for chunk in chunks:
                self.wfile.write(chunk)
                sent += len(chunk)
        finally:
            self.close_connection = sent != size  # if too short, the client requests it again

    def _head(self, size: int, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Do nothing: the engine's log shows the requests."""


def remembered(settings: Settings) -> Path:
    """Return the path of a project's name; projects that share a cache have different names."""
    project = hashlib.sha256(str(settings.project.resolve()).encode()).hexdigest()
    return settings.cache_dir / "wheelhouses" / project[:16]


@contextmanager
def open_wheelhouse(content: Content, remembered: Path) -> Iterator[Server]:
    """Serve on loopback while the context lasts.

    The folder `remembered` keeps port and token for the next time; if the port is in use, most
    likely by another build, others are taken.
    """
    server = _start_server(content, remembered / NAME)
    thread = Helper(partial(server.serve_forever, _POLL), "wheelhouse")
    thread.start()
    try:
        yield server
    finally:
        content.files.close()
        server.shutdown()
        server.server_close()
    thread.require()


def _start_server(content: Content, remembered: Path) -> Server:
    try:
        port, token = _read_name(remembered)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        server = Server(content, 0)
        name = {"port": server.server_port, "token": content.token}
        if remembered.is_dir():
            remove(remembered)
        write_text(remembered, json.dumps(name), mode=0o600)
        return server
    try:
        server = Server(content, port)
    except OSError:
        return Server(content, 0)
    content.token = token
    return server


def _read_name(path: Path) -> tuple[int, str]:
    endpoint = json.loads(path.read_text())
    port, token = int(endpoint["port"]), str(endpoint["token"])
    if not (0 < port < 1 << 16 and re.fullmatch("[0-9a-f]{16}", token)):
        raise ValueError(f"{path} does not contain port and token")
    return port, token
