"""The site as `make site` left it in public/, served on loopback and opened in Chromium."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.devcontainer.npm import find_node, install_cli
from tests.needs import missing
from wheelyard.settings import load_settings
from wheelyard.system.tools import find_tool

PROJECT = Path(__file__).parents[2]
PUBLIC = PROJECT / "public"
IMAGE = "/catalogue/pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime/"
PAGES = ("/", "/pick/", "/catalogue/", IMAGE, "/servers/", "/projects/")


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder, without a line for each."""

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="session")
def site() -> Path:
    if not (PUBLIC / "index.html").is_file():
        pytest.fail("there is no site in public/: make site")
    return PUBLIC


@pytest.fixture(scope="session")
def chromium() -> str:
    found = find_tool("chromium")
    if found is None:
        missing("chromium is not installed")
    return str(found)


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def visit(address: str, chromium: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tests/site/browse.mjs met; its screenshots go to $WHEELYARD_SCREENSHOTS."""
    node, _npm = find_node()
    folder = install_cli(load_settings({}))
    pictures = Path(os.environ.get("WHEELYARD_SCREENSHOTS") or tmp_path_factory.mktemp("pictures"))
    argv: list[str | Path] = [
        node,
        Path(__file__).with_name("browse.mjs"),
        folder,
        chromium,
        address,
        pictures,
        *PAGES,
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
