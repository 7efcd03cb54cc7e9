"""JupyterLab as it is started by hand in a devcontainer, asked over HTTP from outside."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.devcontainer.npm import NODE_COPY
from tests.devcontainer.workplace import Workplace, give, init
from tests.needs import need_tools
from tests.peers.registries import free_port
from wheelyard.system.tools import find_tool

PATIENCE = 120  # seconds
TOKEN = "a-token-of-this-test"
CELL = Path(__file__).with_name("cell.py")
NOTEBOOK = Path(__file__).with_name("notebook.mjs")


@pytest.fixture
def address(place: Workplace) -> Iterator[str]:
    """Where JupyterLab answers; the engine has no bridge, so the container uses our network."""
    init(place)
    config = place.read()
    place.write(config | {"runArgs": [*config["runArgs"], "--network=host"]})
    place.up()
    port = free_port()
    jupyter = f"jupyter lab --no-browser --port={port} --IdentityProvider.token={TOKEN}"
    jupyter += " --LabApp.expose_app_in_browser=True"
    place.shell(f"nohup {jupyter} >jupyter.log 2>&1 & echo $! >jupyter.pid")
    yield f"http://127.0.0.1:{port}"
    place.shell("kill $(cat jupyter.pid)")


def ask(url: str, token: str | None) -> tuple[int, bytes]:
    headers = {} if token is None else {"Authorization": f"token {token}"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=10) as reply:
            return int(reply.status), reply.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, b""


def wait_for(url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if ask(url, TOKEN)[0] == 200:
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"nothing answers at {url}")


def test_it_answers_with_its_token_and_only_with_it(address: str, place: Workplace) -> None:
    wait_for(f"{address}/api/status")
    status, page = ask(f"{address}/lab", TOKEN)
    assert (status, b"JupyterLab" in page) == (200, True)
    assert ask(f"{address}/api/contents", None)[0] == 403
    assert ask(f"{address}/api/contents", "wrong")[0] == 403
    listed = json.loads(ask(f"{address}/api/contents", TOKEN)[1])
    assert "jupyter.log" in {item["name"] for item in listed["content"]}
    kernels = json.loads(ask(f"{address}/api/kernelspecs", TOKEN)[1])
    command = kernels["kernelspecs"]["python3"]["spec"]["argv"][0]
    assert place.output("bash", "-c", f"command -v {command}") == "/opt/venv/bin/python"


def test_a_notebook_trains_in_a_browser(address: str, place: Workplace, tmp_path: Path) -> None:
    """Chromium opens a notebook, runs its cell, and shows that the loss falls.

    The picture goes to $WHEELYARD_SCREENSHOTS; docs/devcontainer.md has it.
    """
    need_tools("chromium")
    wait_for(f"{address}/api/status")
    (place.project / "training.ipynb").write_text(json.dumps(notebook(CELL.read_text().strip())))
    give(place)
    screenshot = Path(os.environ.get("WHEELYARD_SCREENSHOTS", tmp_path), "notebook.png")
    url = f"{address}/lab/tree/training.ipynb?token={TOKEN}"
    shown = subprocess.run(
        [place.cli / NODE_COPY, NOTEBOOK, place.cli, str(find_tool("chromium")), url, screenshot],
        capture_output=True, text=True, check=False, timeout=3 * PATIENCE,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    losses = [float(line.rpartition(" ")[2]) for line in shown.stdout.splitlines()[1:]]
    assert len(losses) == 5
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    assert screenshot.read_bytes().startswith(b"\x89PNG")


def notebook(code: str) -> dict[str, Any]:
    """One cell, in Jupyter's format 4.5."""
    cell: dict[str, Any] = {
        "cell_type": "code", "id": "train", "metadata": {}, "outputs": [],
        "execution_count": None, "source": code,
    }  # fmt: skip
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": [cell]}
