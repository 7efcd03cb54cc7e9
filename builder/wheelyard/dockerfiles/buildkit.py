"""A build by a Docker Engine's own builder, through the docker SDK: streamed, logged, cancelled.

It is the builder that the engine prefers, as for `docker build`: BuildKit since Docker 23, the
classic one before. DOCKER_BUILDKIT chooses, too.
"""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from docker.errors import DockerException

from wheelyard.dockerfiles.buildlog import BuildLog
from wheelyard.engines.docker import SILENCE
from wheelyard.errors import EngineError

if TYPE_CHECKING:
    from docker import DockerClient

    from wheelyard.console.tasks import Reporter

_OLDEST_API = (1, 41)  # Docker 20.10
_REFUSED = ("unauthorized", "denied", "authentication required", "no basic auth credentials")
SHOWN = 160  # characters of a step in a message
_CLASSIC, _BUILDKIT = "1", "2"  # the Engine API's names of its builders
_BUILDKIT_NETWORKS = (None, "default", "host", "none")


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One `docker build`; everything here but the context leaves no trace in the image."""

    label: str  # for progress
    context: bytes  # a tar
    log: Path
    hosts: Mapping[str, str] = field(default_factory=dict)  # lines for /etc/hosts: name -> address
    network: str | None = None  # of the RUN steps; None: the engine's default
    arguments: Mapping[str, str] = field(default_factory=dict)  # of those that leave no trace
    address: str | None = None  # where the engine itself can read the context, as BuildKit has to


def require_recent(client: DockerClient) -> None:
    """Raise EngineError for an engine that is older than Docker 20.10."""
    facts = client.version()
    version = tuple(int(part) for part in facts["ApiVersion"].split(".")[:2])
    if version < _OLDEST_API:
        raise EngineError(
            f"the engine is too old: version {facts.get('Version', '?')} (API "
            f"{facts['ApiVersion']}); rendered Dockerfiles need Docker 20.10 (API 1.41) or newer. "
            "`wheelyard build` without --engine needs none"
        )


def build_image(client: DockerClient, request: BuildRequest, reporter: Reporter) -> str:
    """Build and return the image's id; everything that the engine says goes to `request.log`.

    Raises EngineError with the step, the end of the log and the log's path. However it ends, the
    engine is told: it removes the container of the current step.
    """
    client.api.timeout = SILENCE
    request.log.parent.mkdir(parents=True, exist_ok=True)
    with (
        request.log.open("w", encoding="utf-8") as log,
        BuildLog(request.label, log, reporter) as progress,
        _built_by(client, _choose_builder(client, request)),
        _cancelled_when_left(client),
    ):
        try:
            for message in _messages(client, request):
                progress.take(message)
        except (DockerException, requests.RequestException) as error:
            raise EngineError(_failure(str(error), progress, request)) from error
        if progress.error is not None or progress.image is None:
            text = progress.error or "the engine ended the build without an image"
            raise EngineError(_failure(text, progress, request))
        return progress.image


def _messages(client: DockerClient, request: BuildRequest) -> Iterator[dict[str, Any]]:
    api: Any = client.api  # the stubs know neither of our file object nor of the hosts
    by_address = api.params["version"] == _BUILDKIT
    stream = api.build(
        path=request.address if by_address else None,
        fileobj=None if by_address else io.BytesIO(request.context),
        custom_context=not by_address,
        rm=True,
        forcerm=True,  # after a failure too
        decode=True,
        network_mode=request.network,
        extra_hosts=dict(request.hosts) or None,
        buildargs=dict(request.arguments),
    )
    yield from stream


def _choose_builder(client: DockerClient, request: BuildRequest) -> str:
    """Return the builder that `docker build` would use, if it supports the request.

    BuildKit takes a context from a client that speaks gRPC, or from an address; Docker 26.1 with
    containerd's store drops one that is sent as to the classic builder.
    """
    if request.address is None or request.network not in _BUILDKIT_NETWORKS:
        return _CLASSIC
    chosen = os.environ.get("DOCKER_BUILDKIT", "").lower()
    if chosen:
        return _CLASSIC if chosen in ("0", "false") else _BUILDKIT
    api: Any = client.api  # the SDK's `ping` leaves out the headers
    return str(api.get(f"{api.base_url}/_ping").headers.get("Builder-Version", _CLASSIC))


@contextmanager
def _built_by(client: DockerClient, builder: str) -> Iterator[None]:
    """Use that builder for builds: the SDK does not support the choice (docker-py#2230).

    This adds a session's parameters to every request; the engine reads them in builds only.
    """
    parameters: Any = client.api.params
    client.api.params = {**parameters, "version": builder}
    try:
        yield
    finally:
        client.api.params = parameters


@contextmanager
def _cancelled_when_left(client: DockerClient) -> Iterator[None]:
    """Close the connection to the engine on leaving, which cancels an unfinished build."""
    opened: list[requests.Response] = []

    def remember(response: requests.Response, *_: object, **__: object) -> None:
        opened.append(response)

    hooks: list[Any] = client.api.hooks["response"]
    hooks.append(remember)
    try:
        yield
    finally:
        hooks.remove(remember)
        for response in opened:
            response.close()


def _failure(text: str, progress: BuildLog, request: BuildRequest) -> str:
    step = " ".join(progress.step.split())
    shown = f"{step[:SHOWN]}..." if len(step) > SHOWN else step
    lines = [f"the engine could not build {request.label}: {explain(text, progress.tail)}"]
    if shown:
        lines.append(f"step: {shown}")
    lines += [f"  {line[:SHOWN]}" for line in progress.tail if not line.startswith(text[:SHOWN])]
    return "\n".join([*lines, f"log: {request.log}"])


def explain(text: str, tail: Iterable[str] = ()) -> str:
    """Return the engine's message, shortened, with advice if there is any.

    `tail` is the end of the log: a step reports a full disk there, not in its exit code.
    """
    words = text.lower()
    full = os.strerror(errno.ENOSPC).lower()
    short = re.sub(r"The command '.*' returned", "the command returned", text, flags=re.DOTALL)
    short = re.sub(r'process ".*" did not', "the command did not", short, flags=re.DOTALL)
    if full in words or any(full in line.lower() for line in tail):
        return (
            "the engine's disk is full: free space (`docker system df`), then build again "
            f"({short})"
        )
    if any(word in words for word in _REFUSED):
        return (
            f"the registry refused: check the image's name, and log in (`docker login`) ({short})"
        )
    if "manifest unknown" in words or "not found: manifest" in words:
        return (
            "the registry does not have the image (any more): check the digest in "
            f"matrix.yaml ({short})"
        )
    if "toomanyrequests" in words:
        return f"the registry limits requests: log in (`docker login`) or try later ({short})"
    return short
