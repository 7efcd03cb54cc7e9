"""A package index on loopback, made of small wheels, and cells that lock from it."""

from __future__ import annotations

import hashlib
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from wheels import make_wheel

from wheelyard.model import Base, Cell, Flavour, FrameworkPin
from wheelyard.settings import Settings

BASE = Base("bookworm", "bookworm", "3.11")
RUNTIME = Flavour("runtime", None, ("tini",), ("numpy",))
DEVEL = Flavour("devel", "runtime", ("git", "tini"), ("jupyterlab", "numpy"))
CUDA_SET = ("nvidia-cuda-runtime-cu12==12.1.105", "nvidia-cudnn-cu12==8.9.2.26")


class Quiet:
    """A reporter that remembers what it was told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def info(self, message: str) -> None:
        self.messages.append(message)

    warn = info

    @contextmanager
    def task(self, label: str, total: int | None, unit: str) -> Iterator[Quiet]:
        yield self

    def advance(self, amount: int) -> None:
        pass

    at = info


class Index:
    """PEP 503 pages in a folder, as `python -m http.server` would serve them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hashes = True
        self.before: Callable[[str, str], None] = lambda _path, _agent: None  # it is answered
        (folder / "files").mkdir(parents=True)

    def add(self, name: str, version: str, requires: Sequence[str] = ()) -> Path:
        metadata = "".join(f"Requires-Dist: {line}\n" for line in requires)
        return make_wheel(self.folder / "files", name.replace("-", "_"), version, metadata=metadata)

    def publish(self) -> None:
        pages: dict[str, list[str]] = {}
        for wheel in sorted((self.folder / "files").glob("*.whl")):
            digest = f"#sha256={sha256(wheel)}" if self.hashes else ""
            link = f'<a href="/files/{wheel.name}{digest}">{wheel.name}</a>'
            pages.setdefault(wheel.name.split("-")[0].replace("_", "-"), []).append(link)
        for name, links in pages.items():
            page = self.folder / "simple" / name / "index.html"
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text("<!DOCTYPE html><html><body>" + "".join(links) + "</body></html>")

    @contextmanager
    def serve(self, tls: ssl.SSLContext | None = None) -> Iterator[str]:
        """Publish, and give the index URL while the context lasts."""
        self.publish()
        handler = partial(_Handler, self, directory=str(self.folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            scheme, host = ("http", "127.0.0.1") if tls is None else ("https", "localhost")
            yield f"{scheme}://{host}:{server.server_port}/simple/"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, index: Index, *args: Any, directory: str) -> None:
        self.index = index
        super().__init__(*args, directory=directory)

    def do_GET(self) -> None:
        self.index.before(self.path, self.headers.get("User-Agent", ""))
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def torch_index(folder: Path) -> Index:
    """An index with torch 2.3.1, its CUDA 12.1 set, and a few tools."""
    index = Index(folder)
    index.add("torch", "2.3.1", (*CUDA_SET, "filelock"))
    index.add("nvidia-cuda-runtime-cu12", "12.1.105")
    index.add("nvidia-cudnn-cu12", "8.9.2.26")
    index.add("filelock", "3.1")
    index.add("numpy", "1.26.4")
    index.add("jupyterlab", "4.2", ("filelock",))
    return index


def make_settings(folder: Path, index_url: str | None = None, **changes: object) -> Settings:
    settings = Settings(folder, folder / "cache", index_url, None, None, None, 1, 20.0)
    return replace(settings, **changes)  # type: ignore[arg-type]


def runtime_cell() -> Cell:
    return Cell(
        id="pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime",
        frameworks=(FrameworkPin("pytorch", "2.3.1", "torch"),),
        cuda="12.1",
        cudnn="8.9",
        python="3.11",
        flavour=RUNTIME,
        base=BASE,
        requirements=("torch==2.3.1", "numpy"),
        constraints=("numpy<2",),
        parent=None,
        tags=("pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11",),
        default_base=True,
    )


def devel_cell() -> Cell:
    below = runtime_cell()
    return replace(
        below,
        id=below.id.replace("runtime", "devel"),
        flavour=DEVEL,
        requirements=(*below.requirements, "jupyterlab"),
        parent=below.id,
        tags=("pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11-devel",),
    )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
