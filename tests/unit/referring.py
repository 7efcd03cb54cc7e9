"""A registry that lists referrers itself (distribution-spec 1.1): none of Debian's does yet."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

ANY = "*"


class Shelf:
    """What the registry holds: blobs and manifests by digest or tag."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.url = ""

    def referrers(self, digest: str) -> bytes:
        found = []
        for data in {*self.manifests.values()}:
            manifest = json.loads(data)
            if manifest.get("subject", {}).get("digest") == digest:
                told = {k: manifest[k] for k in ("mediaType", "artifactType", "annotations")}
                found.append(told | {"digest": digest_of(data), "size": len(data)})
        return json.dumps({"schemaVersion": 2, "manifests": found}).encode()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def referring_registry(repository: str = "x") -> Iterator[Shelf]:
    """Serve a shelf on loopback, under the name of one repository.

    With `repository` ANY there are as many as are asked for; a manifest then lies under
    `REPOSITORY/REFERENCE`, a blob under its digest for all of them.
    """
    shelf = Shelf()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def _answer(self, code: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _find(self) -> None:
            kind, _, name = self.path.removeprefix(f"/v2/{repository}/").partition("/")
            if repository == ANY:
                place, kind, name = self.path.removeprefix("/v2/").rsplit("/", 2)
                name = f"{place}/{name}" if kind == "manifests" else name
            if kind == "referrers":
                self._answer(200, shelf.referrers(name))
                return
            held = shelf.blobs if kind == "blobs" else shelf.manifests
            if name in held:
                self._answer(200, held[name], Docker_Content_Digest=digest_of(held[name]))
            else:
                self._answer(404)

        do_GET = do_HEAD = _find  # noqa: N815

        def do_POST(self) -> None:
            self._answer(202, Location="/v2/any/blobs/uploads/1")

        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            parts = urlsplit(self.path)
            if "/manifests/" in parts.path:
                place, name = parts.path.removeprefix("/v2/").split("/manifests/")
                shelf.manifests[f"{place}/{name}" if repository == ANY else name] = data
            else:
                shelf.blobs[parse_qs(parts.query)["digest"][0]] = data
            self._answer(201, Docker_Content_Digest=digest_of(data))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    shelf.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield shelf
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
