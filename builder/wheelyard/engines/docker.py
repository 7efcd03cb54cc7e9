"""Docker Engine through the docker SDK: where it answers, what it has, and pulling."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from docker import DockerClient
from docker.constants import DEFAULT_UNIX_SOCKET
from docker.context import ContextAPI
from docker.context.config import get_current_context_name
from docker.errors import DockerException, ImageNotFound
from docker.tls import TLSConfig
from docker.utils import kwargs_from_env

from wheelyard.architecture import Architecture, of_machine
from wheelyard.console.tasks import Reporter, Task
from wheelyard.contract.runtimes import EngineFacts
from wheelyard.errors import EngineError

CONNECT_TIMEOUT = 5  # seconds; a local engine answers in milliseconds
SILENCE = 900  # seconds of silence while an engine unpacks a layer


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address where an engine should answer."""

    url: str
    chosen_by: str | None  # "DOCKER_HOST" or the context's name; None: Docker's default socket
    tls: TLSConfig | None = None


def find_endpoint(environ: Mapping[str, str] = os.environ) -> Endpoint:
    """Return DOCKER_HOST, else the current docker context, else the default socket."""
    if environ.get("DOCKER_HOST"):
        return _endpoint_from_environment(environ)
    name = environ.get("DOCKER_CONTEXT") or get_current_context_name()
    if name == "default":
        return Endpoint(DEFAULT_UNIX_SOCKET.removeprefix("http+"), None)
    try:
        context = ContextAPI.get_context(name)
    except Exception as error:  # the SDK raises a bare Exception for a damaged file
        raise EngineError(f"docker context {name!r} cannot be read: {error}") from error
    if context is None:
        raise EngineError(f"there is no docker context {name!r}; see `docker context ls`")
    if context.Host is None:
        raise EngineError(
            f"docker context {name!r} does not name an engine; see `docker context inspect`"
        )
    return Endpoint(context.Host, f"docker context {name!r}", context.TLSConfig)


def _endpoint_from_environment(environ: Mapping[str, str]) -> Endpoint:
    try:
        given = kwargs_from_env(environment=dict(environ))
    except DockerException as error:
        raise EngineError(f"the DOCKER_* variables cannot be used: {error}") from error
    return Endpoint(given["base_url"], "DOCKER_HOST", given.get("tls") or None)


def connect(environ: Mapping[str, str] = os.environ) -> DockerClient | None:
    """Connect to the engine that answers.

    Returns None if none was chosen and Docker's default socket does not answer. Raises EngineError
    if a chosen engine does not answer or may not be used.
    """
    endpoint = find_endpoint(environ)
    try:
        _raise_if_unreachable(endpoint.url)
        return DockerClient(
            base_url=endpoint.url,
            tls=endpoint.tls or False,
            timeout=CONNECT_TIMEOUT,
            version="auto",  # asks the engine, so this is the first real answer
            use_ssh_client=True,
        )
    except (DockerException, requests.RequestException, OSError) as error:
        if endpoint.chosen_by is None and _is_absent(error):
            return None
        raise EngineError(explain_connection(endpoint, error)) from error


def _raise_if_unreachable(url: str) -> None:
    """Raise the plain OSError of a socket that does not answer; the SDK would leak one."""
    scheme, _, path = url.partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CONNECT_TIMEOUT)
            probe.connect(path)


def explain_connection(endpoint: Endpoint, error: BaseException) -> str:
    """Say why no engine answers, and what to do about it."""
    where = f"the engine at {endpoint.url}"
    chosen = f" (chosen by {endpoint.chosen_by})" if endpoint.chosen_by else ""
    if any(isinstance(cause, PermissionError) for cause in _causes(error)):
        return (
            f"{where}{chosen} may not be used by this user: add the user to the group that owns "
            "the socket (usually `docker`) and log in again, or run as root"
        )
    if endpoint.url.startswith("ssh://") and "paramiko" in str(error):
        return (
            f"{where}{chosen} is reached by ssh, which the Docker SDK does here only with its "
            "extra package paramiko. Let ssh forward the engine's socket instead: `ssh -nNT -L "
            "$HOME/docker.sock:/var/run/docker.sock USER@HOST`, and meanwhile "
            "DOCKER_HOST=unix://$HOME/docker.sock"
        )
    if _is_absent(error):
        return f"{where}{chosen} is not running: start it, or continue without it (--no-load)"
    return f"{where}{chosen} does not answer: {error}"


def _is_absent(error: BaseException) -> bool:
    absent = (FileNotFoundError, ConnectionRefusedError)
    return any(isinstance(cause, absent) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all inside it: libraries wrap them as cause, context or argument."""
    waiting, seen = [error], set[int]()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = (current.__cause__, current.__context__, *current.args)
        waiting += [item for item in inner if isinstance(item, BaseException)]


@contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """Turn what the SDK raises into EngineError: `what` has failed, and the engine's words."""
    try:
        yield
    except (DockerException, requests.RequestException) as error:
        raise EngineError(f"{what}: {error}") from error


def engine_facts(client: DockerClient) -> EngineFacts:
    """Return what the engine reports about itself; EngineError if it does not answer."""
    with engine_errors("the engine does not report its version"):
        info = client.info()
    return EngineFacts(
        version=str(info.get("ServerVersion") or "unknown"),
        runtimes=tuple(info.get("Runtimes") or ()),
        root=str(info.get("DockerRootDir") or "/var/lib/docker"),
        cdi=bool(info.get("CDISpecDirs")),
    )


def pull(client: DockerClient, reference: str, digest: str | None, reporter: Reporter) -> str:
    """Pull `reference` and return the image's id; raise EngineError.

    With a digest, that exact image is pulled, and then gets the tag of `reference`.
    """
    client.api.timeout = SILENCE
    repository, _, tag = reference.rpartition(":")
    source = digest or tag
    with engine_errors(f"the engine could not pull {reference}"):
        with reporter.task(f"pull {reference}", None, "bytes") as task:
            _follow(client, repository, source, task)
        name = f"{repository}@{digest}" if digest else reference
        found = str(client.images.get(name).id)
        if digest:
            client.api.tag(name, repository, tag)
    return found


def _follow(client: DockerClient, repository: str, tag: str, task: Task) -> None:
    """Show the layers' progress; errors are reported in the engine's stream only."""
    arrived: dict[str, int] = {}
    for message in client.api.pull(repository, tag=tag, stream=True, decode=True):
        if "error" in message:
            raise EngineError(explain_failure(str(message["error"]), "pull"))
        if message.get("status") == "Downloading":
            layer, done = str(message.get("id")), int(message["progressDetail"].get("current", 0))
            task.advance(done - arrived.get(layer, 0))
            arrived[layer] = done


def uses_containerd(client: DockerClient) -> bool:
    """Tell whether images are in containerd's store, which needs every blob."""
    status = client.info().get("DriverStatus") or []
    return any("io.containerd.snapshotter" in str(entry[-1]) for entry in status)


def is_local(client: DockerClient) -> bool:
    """Tell whether the engine is reached without a network: by a socket of this machine."""
    return client.api.base_url == "http+docker://localhost"


def architecture_of(client: DockerClient) -> Architecture | None:
    """Return the architecture of the engine's machine, None for one without images.

    Raises EngineError if the engine does not answer.
    """
    with engine_errors("the engine does not report its processor"):
        return of_machine(str(client.info().get("Architecture")))


def name_image(client: DockerClient, image: str, name: str) -> None:
    """Give an image of the engine a further name; raise EngineError if it refuses."""
    repository, _, tag = name.rpartition(":")
    with engine_errors(f"the engine could not tag {image} as {name}"):
        client.api.tag(image, repository, tag)


def has_image(client: DockerClient, name: str) -> bool:
    """Tell whether the engine has an image of that name; EngineError if it does not answer."""
    with engine_errors(f"the engine does not report whether it has {name}"):
        return inspect_image(client, name) is not None


def never_started(client: DockerClient, label: str) -> tuple[str, ...]:
    """Return short ids of containers with a label (`name=value`) whose start failed."""
    with engine_errors("the engine does not list its containers"):
        containers = client.containers.list(all=True, filters={"label": label, "status": "created"})
    return tuple(str(container.short_id) for container in containers)


def present_layers(client: DockerClient) -> list[tuple[str, ...]]:
    """Return the diff_ids of all images of the engine, lowest layer first."""
    listed = (inspect_image(client, image["Id"]) for image in client.api.images(all=True))
    return [layers_of(facts) for facts in listed if facts is not None]


def inspect_image(client: DockerClient, name: str) -> dict[str, Any] | None:
    """Return the engine's facts about an image; None if it has none of that name or id."""
    api: Any = client.api  # the stubs leave this call untyped
    try:
        facts: dict[str, Any] = api.inspect_image(name)
    except ImageNotFound:
        return None
    return facts


def layers_of(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the diff_ids of an image that was inspected, lowest first."""
    return tuple(facts["RootFS"].get("Layers") or ())


def explain_failure(text: str, verb: str = "load") -> str:
    """Return the engine's message, with advice if there is any."""
    if os.strerror(errno.ENOSPC).lower() in text.lower():
        return (
            f"the engine's disk is full: free space (`docker system df`), then {verb} again "
            f"({text})"
        )
    return f"the engine could not {verb} the image: {text}"
