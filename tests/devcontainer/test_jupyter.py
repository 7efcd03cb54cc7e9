"""JupyterLab as it is started by hand in a devcontainer, asked over HTTP from outside."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.devcontainer.workplace import Workplace, init

PATIENCE = 120  # seconds
TOKEN = "a-token-of-this-test"


@pytest.fixture
def address(place: Workplace) -> Iterator[str]:
    """Where JupyterLab answers; the engine has no bridge, so the container uses our network."""
    init(place)
    config = place.read()
    place.write(config | {"runArgs": [*config["runArgs"], "--network=host"]})
    place.up()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    jupyter = f"jupyter lab --no-browser --port={port} --IdentityProvider.token={TOKEN}"
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
