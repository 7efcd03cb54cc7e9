"""Serve a folder by TensorBoard over HTTP and ask it what it read; used by two stories."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from typing import Any

SECONDS = 90


def scalars(folder: str) -> dict[str, list[str]]:
    """Tags by run, as a browser gets them once TensorBoard has read the folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["tensorboard", "--logdir", folder, "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and server.poll() is None:
            with suppress(OSError):
                found = ask(f"http://127.0.0.1:{port}/data/plugin/timeseries/tags")["scalars"][
                    "runTagInfo"
                ]
                if found:
                    return dict(found)
            time.sleep(0.3)
        raise RuntimeError(f"TensorBoard showed nothing, exit code {server.poll()}")
    finally:
        server.terminate()
        server.wait(SECONDS)  # with TensorFlow in it, its end takes seconds, more on a busy machine


def ask(address: str) -> Any:
    """The JSON at an address of this machine, whatever proxy is set."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=10) as answer:
        return json.load(answer)
