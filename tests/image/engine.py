"""A Docker Engine for the tests: the one that answers, or one started here and ended with us."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.engines.docker import connect
from builder.errors import EngineError

if TYPE_CHECKING:
    from docker import DockerClient

START_SECONDS = 60


def can_start() -> bool:
    return os.geteuid() == 0 and shutil.which("dockerd") is not None


def daemon_command(folder: Path) -> list[str]:
    """A dockerd that keeps everything below `folder` and leaves the host's network alone."""
    return [
        "dockerd",
        f"--data-root={folder}/data",
        f"--exec-root={folder}/exec",
        f"--pidfile={folder}/docker.pid",
        f"--host=unix://{folder}/docker.sock",
        "--iptables=false",
        "--ip6tables=false",
        "--bridge=none",
    ]


@contextmanager
def running_engine(parent: str | None) -> Iterator[DockerClient]:
    """A client; DOCKER_HOST is set for as long as an engine of our own runs."""
    try:
        client = connect()
    except EngineError:
        if not can_start():
            raise
        client = None
    if client is not None:
        yield client
        client.close()
        return
    patched = pytest.MonkeyPatch.context()
    with temporary_folder(parent) as folder, own_engine(folder) as client, patched as patch:
        patch.setenv("DOCKER_HOST", f"unix://{folder}/docker.sock")
        patch.delenv("DOCKER_CONTEXT", raising=False)
        yield client


@contextmanager
def temporary_folder(parent: str | None = None) -> Iterator[Path]:
    """A folder with a short name: a socket's path has at most 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="wheelyard-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def own_engine(folder: Path) -> Iterator[DockerClient]:
    """A daemon that keeps everything in `folder`, ended together with its containers."""
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(daemon_command(folder), stdout=log, stderr=log)
    try:
        client = wait_for(folder, daemon)
        yield client
        client.close()
    finally:
        daemon.terminate()
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def wait_for(folder: Path, daemon: subprocess.Popen[bytes]) -> DockerClient:
    """The client of a daemon that was just started."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and daemon.poll() is None:
        try:
            client = connect({"DOCKER_HOST": f"unix://{folder}/docker.sock"})
        except EngineError:
            time.sleep(0.2)
        else:
            assert client is not None
            return client
    tail = (folder / "log").read_text().splitlines()[-10:]
    pytest.fail("dockerd did not start:\n" + "\n".join(tail))
