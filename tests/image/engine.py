"""A Docker Engine for the image suites: the one that answers, or one of our own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.engines.daemons import address_of, can_start, own_engine, temporary_folder
from wheelyard.engines.docker import connect
from wheelyard.errors import EngineError

if TYPE_CHECKING:
    from docker import DockerClient


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
        patch.setenv("DOCKER_HOST", address_of(folder))
        patch.delenv("DOCKER_CONTEXT", raising=False)
        yield client
