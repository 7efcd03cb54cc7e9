"""What a story of tests/use may cost: asking for a package fetches no package."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from wheels import make_wheel

ASK = Path(__file__).parents[1] / "use" / "stories" / "ask_for_packages.py"
SIZE = 3_000_000
PAGE = b'<!DOCTYPE html><a href="/a_story-1.0-py3-none-any.whl">a_story-1.0-py3-none-any.whl</a>'


class Index(ThreadingHTTPServer):
    """An index of one wheel that answers ranges of it, and has no metadata apart from it."""

    daemon_threads = True

    def __init__(self, wheel: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.wheel, self.sent = wheel.read_bytes(), 0


class Handler(BaseHTTPRequestHandler):
    server: Index

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self.send(b"", len(self.server.wheel))

    def do_GET(self) -> None:
        if not self.path.endswith(".whl"):
            self.send(PAGE, len(PAGE), "text/html")
            return
        body = self.server.wheel
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        begin = int(first) if first else len(body) - int(last)
        part = body[begin : int(last) + 1 if first and last else len(body)]
        self.server.sent += len(part)
        self.send(part, len(part), begin=begin if "Range" in self.headers else None)

    def send(
        self, body: bytes, size: int, kind: str = "application/zip", begin: int | None = None
    ) -> None:
        self.send_response(200 if begin is None else 206)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.send_header("Accept-Ranges", "bytes")
        if begin is not None:
            whole = len(self.server.wheel)
            self.send_header("Content-Range", f"bytes {begin}-{begin + len(body) - 1}/{whole}")
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(index: Index) -> Iterator[str]:
    thread = threading.Thread(target=index.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{index.server_port}/simple/"
    finally:
        index.shutdown()
        index.server_close()
        thread.join()


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_asking_for_a_package_reads_only_its_metadata(tmp_path: Path, tool: str) -> None:
    contents = {"a_story/large.bin": random.Random(0).randbytes(SIZE)}
    index = Index(make_wheel(tmp_path, "a_story", "1.0", contents))
    kept = {name: value for name, value in os.environ.items() if name[:4] not in ("PIP_", "UV_I")}
    with serving(index) as url:
        environment = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": url,
            "UV_NO_CONFIG": "1",
            "UV_DEFAULT_INDEX": url,
            "UV_CACHE_DIR": str(tmp_path / "uv"),
            "VIRTUAL_ENV": sys.prefix,
        }
        asked = [sys.executable, str(ASK), tool, "a-story"]
        done = subprocess.run(
            asked, check=False, capture_output=True, text=True, env=environment, timeout=120
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "a-story would bring {'a-story': '1.0'}\n"
    assert 0 < index.sent < SIZE / 2
