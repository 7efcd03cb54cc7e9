"""Docker Engine through the docker SDK; no other module imports it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from docker import DockerClient
from docker.constants import DEFAULT_UNIX_SOCKET
from docker.context import ContextAPI
from docker.context.config import get_current_context_name
from docker.errors import DockerException, ImageNotFound
from docker.tls import TLSConfig
from docker.utils import kwargs_from_env

from builder.engines.archive import (
    LoadableImage,
    Member,
    archive_size,
    make_archive,
    make_inflated_archive,
    shared_layers,
    stream,
)
from builder.errors import EngineError
from builder.picking.runtimes import EngineFacts

if TYPE_CHECKING:
    from builder.console.progress import Reporter, Task

__all__ = ["Endpoint", "LoadableImage", "Loaded", "connect", "find_endpoint", "load"]

CONNECT_TIMEOUT = 5  # seconds; a local engine answers in milliseconds
SILENCE = 900  # seconds without a word while an engine unpacks a layer


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an engine should answer."""

    url: str
    chosen_by: str | None  # "DOCKER_HOST" or the context's name; None: Docker's default socket
    tls: TLSConfig | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of an image."""

    image: LoadableImage
    id: str  # the id that the engine knows it by
    sent: int  # bytes; 0 when the engine had it
    reused: int  # layers that the engine had


def find_endpoint(environ: Mapping[str, str] = os.environ) -> Endpoint:
    """DOCKER_HOST, else the current docker context, else the default socket."""
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
        raise EngineError(f"docker context {name!r} names no engine; see `docker context inspect`")
    return Endpoint(context.Host, f"docker context {name!r}", context.TLSConfig)


def _endpoint_from_environment(environ: Mapping[str, str]) -> Endpoint:
    try:
        given = kwargs_from_env(environment=dict(environ))
    except DockerException as error:
        raise EngineError(f"the DOCKER_* variables cannot be used: {error}") from error
    return Endpoint(given["base_url"], "DOCKER_HOST", given.get("tls") or None)


def connect(environ: Mapping[str, str] = os.environ) -> DockerClient | None:
    """A client of the engine that answers here.

    None when nothing was chosen and nothing listens at Docker's default socket. Raises
    EngineError when a chosen engine does not answer or ours may not be used.
    """
    endpoint = find_endpoint(environ)
    try:
        _knock(endpoint.url)
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


def _knock(url: str) -> None:
    """Raise the plain OSError of a socket nobody answers at; the SDK would leak one instead."""
    scheme, _, path = url.partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CONNECT_TIMEOUT)
            probe.connect(path)


def explain_connection(endpoint: Endpoint, error: BaseException) -> str:
    """Say why no engine answers, and what to do about it."""
    where = f"the engine at {endpoint.url}"
    chosen = f" (chosen by {endpoint.chosen_by})" if endpoint.chosen_by else ""
    if any(isinstance(cause, PermissionError) for cause in causes(error)):
        return (
            f"{where}{chosen} may not be used by this user: add the user to the group that owns "
            "the socket (usually `docker`) and log in again, or run as root"
        )
    if _is_absent(error):
        return f"{where}{chosen} is not running: start it, or go on without it (--no-load)"
    return f"{where}{chosen} does not answer: {error}"


def _is_absent(error: BaseException) -> bool:
    absent = (FileNotFoundError, ConnectionRefusedError)
    return any(isinstance(cause, absent) for cause in causes(error))


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and every error inside it: libraries wrap them as cause, context or argument."""
    waiting, seen = [error], set[int]()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = (current.__cause__, current.__context__, *current.args)
        waiting += [item for item in inner if isinstance(item, BaseException)]


def engine_facts(client: DockerClient) -> EngineFacts:
    """What the engine says about itself; raises EngineError where it does not answer."""
    try:
        info = client.info()
    except (DockerException, requests.RequestException) as error:
        raise EngineError(f"the engine does not say what it is: {error}") from error
    return EngineFacts(
        version=str(info.get("ServerVersion") or "unknown"),
        runtimes=tuple(info.get("Runtimes") or ()),
        root=str(info.get("DockerRootDir") or "/var/lib/docker"),
        cdi=bool(info.get("CDISpecDirs")),
    )


def pull(client: DockerClient, reference: str, digest: str | None, reporter: Reporter) -> str:
    """Pull `reference` and return the image's id; raises EngineError.

    With a digest that very image is pulled, and then gets the tag of `reference`.
    """
    client.api.timeout = SILENCE
    repository, _, tag = reference.rpartition(":")
    source = digest or tag
    try:
        with reporter.task(f"pull {reference}", None, "bytes") as task:
            _follow(client, repository, source, task)
        name = f"{repository}@{digest}" if digest else reference
        found = str(client.images.get(name).id)
        if digest:
            client.api.tag(name, repository, tag)
    except (DockerException, requests.RequestException) as error:
        raise EngineError(f"the engine could not pull {reference}: {error}") from error
    return found


def _follow(client: DockerClient, repository: str, tag: str, task: Task) -> None:
    """Show the layers as they come; the engine's stream is the only place that an error is in."""
    arrived: dict[str, int] = {}
    for message in client.api.pull(repository, tag=tag, stream=True, decode=True):
        if "error" in message:
            raise EngineError(explain_failure(str(message["error"]), "pull"))
        if message.get("status") == "Downloading":
            layer, done = str(message.get("id")), int(message["progressDetail"].get("current", 0))
            task.advance(done - arrived.get(layer, 0))
            arrived[layer] = done


def uses_containerd(client: DockerClient) -> bool:
    """True when images are kept in containerd's store, which wants every blob."""
    status = client.info().get("DriverStatus") or []
    return any("io.containerd.snapshotter" in str(entry[-1]) for entry in status)


def is_local(client: DockerClient) -> bool:
    """True when the engine is reached without a network: a socket of this machine."""
    return client.api.base_url == "http+docker://localhost"


def load(
    client: DockerClient, blobs: Path, images: Sequence[LoadableImage], reporter: Reporter
) -> tuple[Loaded, ...]:
    """Put images of an OCI layout into the engine, under all their tags.

    `blobs` is the layout's `blobs/sha256`. An image that is there is only tagged, and layers
    that are there are not sent again. Raises EngineError with the engine's words.
    """
    client.api.timeout = SILENCE
    containerd = uses_containerd(client)
    try:
        return tuple(_load_one(client, blobs, image, reporter, containerd) for image in images)
    except (DockerException, requests.RequestException) as error:
        raise EngineError(explain_failure(str(error))) from error


def _load_one(
    client: DockerClient, blobs: Path, image: LoadableImage, reporter: Reporter, containerd: bool
) -> Loaded:
    expected = image.manifest if containerd else image.config
    if expected is not None and _tag(client, expected, image):
        return Loaded(image, expected, 0, len(image.layers))
    omit = 0 if containerd else shared_layers(image.diff_ids, present_layers(client))
    inflate = image.sizes and not containerd and is_local(client)
    make = make_inflated_archive if inflate else make_archive
    try:
        sent = _send(client, make(blobs, image, omit), image, reporter)
    except EngineError as error:
        if not omit or "no such file" not in str(error):
            raise
        reporter.warn("an image went away while its layers were counted on: sending them all")
        omit, sent = 0, _send(client, make(blobs, image), image, reporter)
    return Loaded(image, _verified(client, image, expected), sent, omit)


def has_image(client: DockerClient, name: str) -> bool:
    """Whether the engine has an image of that name; raises EngineError where it does not answer."""
    try:
        return _inspect(client, name) is not None
    except (DockerException, requests.RequestException) as error:
        raise EngineError(f"the engine does not say whether it has {name}: {error}") from error


def never_started(client: DockerClient, label: str) -> tuple[str, ...]:
    """Short ids of containers with that label (`name=value`) whose start failed."""
    try:
        found = client.containers.list(all=True, filters={"label": label, "status": "created"})
    except (DockerException, requests.RequestException) as error:
        raise EngineError(f"the engine does not list its containers: {error}") from error
    return tuple(str(container.short_id) for container in found)


def present_layers(client: DockerClient) -> list[tuple[str, ...]]:
    """The diff_ids of every image the engine has, lowest layer first."""
    listed = (_inspect(client, image["Id"]) for image in client.api.images(all=True))
    return [_layers(facts) for facts in listed if facts is not None]


def _inspect(client: DockerClient, name: str) -> dict[str, Any] | None:
    """What the engine knows about an image; None when it has none of that name or id."""
    api: Any = client.api  # the stubs leave this call untyped
    try:
        facts: dict[str, Any] = api.inspect_image(name)
    except ImageNotFound:
        return None
    return facts


def _layers(facts: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(facts["RootFS"].get("Layers") or ())


def _tag(client: DockerClient, image_id: str, image: LoadableImage) -> bool:
    """Tag the image if it is there; says whether it is."""
    present = _inspect(client, image_id)
    if present is None:
        return False
    for tag in set(image.tags) - set(present.get("RepoTags") or ()):
        repository, _, name = tag.rpartition(":")
        client.api.tag(image_id, repository, name)
    return True


def _send(
    client: DockerClient, members: Sequence[Member], image: LoadableImage, reporter: Reporter
) -> int:
    total = archive_size(members)
    label = f"load {image.tags[0] if image.tags else image.config}"
    api: Any = client.api  # a generator makes requests send chunks; the stubs know only bytes
    with reporter.task(label, total, "bytes") as task:
        for message in api.load_image(_counted(stream(members), task), quiet=False):
            if "error" in message:
                raise EngineError(explain_failure(str(message["error"])))
    return total


def _counted(chunks: Iterator[bytes], task: Task) -> Iterator[bytes]:
    for chunk in chunks:
        if chunk:  # an empty chunk would end the request
            yield chunk
            task.advance(len(chunk))


def explain_failure(text: str, verb: str = "load") -> str:
    """The engine's words, with what to do where that is known."""
    if os.strerror(errno.ENOSPC).lower() in text.lower():
        return f"the engine's disk is full: make room (`docker system df`), {verb} again ({text})"
    return f"the engine could not {verb} the image: {text}"


def _verified(client: DockerClient, image: LoadableImage, expected: str | None) -> str:
    """The id of the image just sent; raises EngineError when it is not the one in the layout."""
    name = image.tags[0] if image.tags else expected or image.config
    facts = _inspect(client, name)
    if facts is None:
        raise EngineError(f"the engine took {name} without an error, but does not have it")
    found: str = facts["Id"]
    if expected is not None and found != expected:
        raise EngineError(f"{name} was loaded as {found}, but the layout says {expected}")
    if _layers(facts) != image.diff_ids:
        raise EngineError(f"{name} was loaded with other layers than the layout has")
    return found
