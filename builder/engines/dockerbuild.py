"""A build by a Docker Engine's own builder, through the docker SDK: streamed, logged, cancelled."""

from __future__ import annotations

import errno
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests
from docker.errors import DockerException

from builder.engines.docker import SILENCE
from builder.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO, TextIO

    from docker import DockerClient

    from builder.console.progress import Reporter, Task

OLDEST_API = (1, 41)  # Docker 20.10
TAIL_LINES = 20
REFUSED = ("unauthorized", "denied", "authentication required", "no basic auth credentials")
SHOWN = 160  # characters of a step in a message
_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)", re.DOTALL)
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One `docker build`; what is here besides the context leaves no trace in the image."""

    label: str  # for progress
    context: Path | BinaryIO  # a folder, or a tar of one
    log: Path
    hosts: Mapping[str, str] = field(default_factory=dict)  # lines for /etc/hosts: name -> address
    network: str | None = None  # of the RUN steps; None: the engine's default
    proxies: Mapping[str, str] = field(default_factory=dict)  # HTTP_PROXY and its like


def require_recent(client: DockerClient) -> None:
    """Raise EngineError for an engine that is older than Docker 20.10."""
    facts = client.version()
    version = tuple(int(part) for part in facts["ApiVersion"].split(".")[:2])
    if version < OLDEST_API:
        raise EngineError(
            f"the engine is too old: version {facts.get('Version', '?')} (API "
            f"{facts['ApiVersion']}); rendered Dockerfiles need Docker 20.10 (API 1.41) or newer. "
            "`wheelyard build` without --engine needs none"
        )


def build_image(client: DockerClient, request: BuildRequest, reporter: Reporter) -> str:
    """Build and return the image's id; everything the engine says goes to `request.log`.

    Raises EngineError with the step, the end of the log and the log's path. However it ends, the
    engine is told: it removes the container of the step under way.
    """
    client.api.timeout = SILENCE
    request.log.parent.mkdir(parents=True, exist_ok=True)
    with (
        request.log.open("w", encoding="utf-8") as log,
        _Progress(request, log, reporter) as progress,
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
    is_tar = hasattr(request.context, "read")
    stream = api.build(
        path=None if is_tar else str(request.context),
        fileobj=request.context if is_tar else None,
        custom_context=is_tar,
        rm=True,
        forcerm=True,  # after a failure too
        decode=True,
        network_mode=request.network,
        extra_hosts=dict(request.hosts) or None,
        buildargs=dict(request.proxies),
    )
    yield from stream


@contextmanager
def _cancelled_when_left(client: DockerClient) -> Iterator[None]:
    """Close the connection to the engine on the way out: an unfinished build is then cancelled."""
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


class _Progress:
    """What the stream of messages amounts to: step, log, image or error."""

    def __init__(self, request: BuildRequest, log: TextIO, reporter: Reporter) -> None:
        self.step = ""
        self.image: str | None = None
        self.error: str | None = None
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._label, self._log, self._reporter = request.label, log, reporter
        self._stack = ExitStack()
        self._task: Task | None = None

    def __enter__(self) -> _Progress:
        self._stack.__enter__()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def take(self, message: Mapping[str, Any]) -> None:
        """Take in one message of the engine."""
        text = str(message.get("stream") or message.get("error") or message.get("status") or "")
        self._write(_ESCAPES.sub("", text))
        if found := _STEP.match(text):
            self._begin(int(found[2]), found[3].strip())
        if "aux" in message and "ID" in message["aux"]:
            self.image = str(message["aux"]["ID"])
        if "error" in message:
            self.error = str(message["error"])

    def _write(self, text: str) -> None:
        if text.strip():
            self._log.write(text if text.endswith("\n") else f"{text}\n")
            self._log.flush()
            self.tail.extend(line for line in text.splitlines() if is_said(line))

    def _begin(self, total: int, step: str) -> None:
        if self._task is None:
            context = self._reporter.task(self._label, total, "items")
            self._task = self._stack.enter_context(context)
        else:
            self._task.advance(1)
        self.step = step


def is_said(line: str) -> bool:
    """Whether a line comes from the step, not from the builder about it."""
    return bool(line.strip()) and not line.startswith(("Step ", " ---> ", "Removed intermediate"))


def _failure(text: str, progress: _Progress, request: BuildRequest) -> str:
    step = " ".join(progress.step.split())
    shown = f"{step[:SHOWN]}..." if len(step) > SHOWN else step
    lines = [f"the engine could not build {request.label}: {explain(text, progress.tail)}"]
    if shown:
        lines.append(f"step: {shown}")
    lines += [f"  {line[:SHOWN]}" for line in progress.tail if not line.startswith(text[:SHOWN])]
    return "\n".join([*lines, f"log: {request.log}"])


def explain(text: str, tail: Iterable[str] = ()) -> str:
    """The engine's words, shortened, with what to do where that is known.

    `tail` is the end of the log: what a step says of a full disk, its exit code does not.
    """
    words = text.lower()
    full = os.strerror(errno.ENOSPC).lower()
    short = re.sub(r"The command '.*' returned", "the command returned", text, flags=re.DOTALL)
    short = re.sub(r'process ".*" did not', "the command did not", short, flags=re.DOTALL)
    if full in words or any(full in line.lower() for line in tail):
        return f"the engine's disk is full: make room (`docker system df`), build again ({short})"
    if any(word in words for word in REFUSED):
        return (
            f"the registry refused: check the image's name, and log in (`docker login`) ({short})"
        )
    if "manifest unknown" in words or "not found: manifest" in words:
        return (
            f"the registry has no such image (any more): check the digest in matrix.yaml ({short})"
        )
    if "toomanyrequests" in words:
        return f"the registry limits requests: log in (`docker login`) or try later ({short})"
    return short
