"""From an OCI layout into a Docker Engine: whole images, and layers ahead of their image."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests
from docker.errors import DockerException, NotFound

from wheelyard.engines.ahead import PART, Ahead, is_gone
from wheelyard.engines.docker import (
    SILENCE,
    explain_failure,
    inspect_image,
    is_local,
    layers_of,
    present_layers,
    uses_containerd,
)
from wheelyard.engines.parts import PART_LABEL, ClassicForm, ContainerdForm, Form, containerd_form
from wheelyard.errors import EngineError
from wheelyard.oci.archive import (
    LoadableImage,
    archive_size,
    loadable_layers,
    make_archive,
    make_inflated_archive,
    require_whole,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from docker import DockerClient

    from wheelyard.console.tasks import Reporter, Task
    from wheelyard.oci.archive import Member


ALREADY = "already exists"  # containerd's words for what another load brought at the same time
REMOVALS = 5  # attempts to remove the parts of an image that is there
REMOVAL_SECONDS = 0.5  # before the second; longer before each further one


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of an image."""

    image: LoadableImage
    id: str  # the id that the engine knows it by
    sent: int  # bytes; 0 when the engine had it
    reused: int  # layers that the engine had


def load(
    client: DockerClient,
    blobs: Path,
    images: Sequence[LoadableImage],
    reporter: Reporter,
    *,
    part: int = PART,
) -> tuple[Loaded, ...]:
    """Put images of an OCI layout into the engine, under all their tags.

    `blobs` is the layout's `blobs/sha256`. An image that is there is only tagged, and layers
    that are there are not sent again. Layers are sent in parts of `part` bytes or more.
    Raises EngineError with the engine's words.
    """
    client.api.timeout = SILENCE
    containerd = uses_containerd(client)
    try:
        return tuple(
            _load_whole(client, blobs, image, reporter, part, containerd=containerd)
            for image in images
        )
    except (DockerException, requests.RequestException) as error:
        raise EngineError(explain_failure(str(error))) from error


@contextmanager
def ahead(
    client: DockerClient,
    blobs: Path,
    name: str,
    reporter: Reporter,
    *,
    layout: Path | None = None,
    part: int = PART,
) -> Iterator[Ahead]:
    """Send layers of the image `name` before it is finished.

    `blobs` is a folder of blobs by their SHA-256, `layout` another one, with the manifests of
    images that the engine may have (default: the same). What is sent stays in the engine as
    untagged images until `load` has brought the image itself.
    """
    client.api.timeout = SILENCE
    with ExitStack() as stack:
        lock = threading.Lock()
        tasks: list[Task] = []

        def send(chunks: Iterator[bytes]) -> None:
            with lock:  # no progress of nothing: the engine may have every layer
                if not tasks:
                    tasks.append(stack.enter_context(reporter.task(f"load {name}", None, "bytes")))
            try:
                _post(client, _counted(chunks, tasks[0]))
            except (DockerException, requests.RequestException) as error:
                raise EngineError(explain_failure(str(error))) from error

        form = _form(client, blobs, layout or blobs, containerd=uses_containerd(client))
        with Ahead(form, send, least=part) as sender:
            try:
                yield sender
            except EngineError:  # its words tell of no file
                if isinstance(form, ContainerdForm):
                    _forget_halves(client, [layer.diff_id for layer in sender.offered])
                require_whole(blobs, [layer.digest for layer in sender.offered])
                raise


def _form(client: DockerClient, blobs: Path, layout: Path, *, containerd: bool) -> Form:
    if containerd:
        images = client.api.images(all=True)
        return containerd_form(blobs, layout, {image["Id"] for image in images})
    return ClassicForm(blobs, present_layers(client), inflate=is_local(client))


def _load_whole(
    client: DockerClient,
    blobs: Path,
    image: LoadableImage,
    reporter: Reporter,
    part: int,
    *,
    containerd: bool,
) -> Loaded:
    """Load an image; where the engine refuses it, StorageError names a blob that is damaged."""
    try:
        loaded = _load_one(client, blobs, image, reporter, part, containerd=containerd)
    except EngineError:
        if containerd:
            _forget_halves(client, image.diff_ids, image.manifest)
        require_whole(blobs, [image.config, *(blob for blob, _diff_id in image.layers)])
        raise
    _forget_parts(client, image, reporter)
    return loaded


def _load_one(
    client: DockerClient,
    blobs: Path,
    image: LoadableImage,
    reporter: Reporter,
    part: int,
    *,
    containerd: bool,
) -> Loaded:
    expected = image.manifest if containerd else image.config
    if expected is not None and _tag(client, expected, image):
        return Loaded(image, expected, 0, len(image.layers))
    present = _form(client, blobs, blobs, containerd=containerd).present(image.layers)
    sent = 0
    if sum(image.sizes[present:]) > part:
        sent = _send_parts(client, blobs, image, reporter, part)
    omitted, rest = _send_rest(client, blobs, image, reporter, containerd=containerd)
    found = _verified(client, image, expected)
    return Loaded(image, found, sent + rest, min(present, omitted))


def _send_parts(
    client: DockerClient, blobs: Path, image: LoadableImage, reporter: Reporter, part: int
) -> int:
    with ahead(client, blobs, _name(image), reporter, part=part) as sender:
        for layer in loadable_layers(image):
            sender.offer(layer)
        sender.finish()
        return sender.sent


def _send_rest(
    client: DockerClient,
    blobs: Path,
    image: LoadableImage,
    reporter: Reporter,
    *,
    containerd: bool,
) -> tuple[int, int]:
    """How many layers the engine had in the end, and the bytes that were sent."""
    omit = _form(client, blobs, blobs, containerd=containerd).present(image.layers)
    inflate = image.sizes and not containerd and is_local(client)
    make = make_inflated_archive if inflate else make_archive
    try:
        return omit, _send(client, make(blobs, image, omit), image, reporter)
    except EngineError as error:
        if not omit or not is_gone(error):
            raise
        reporter.warn("an image went away while its layers were counted on: sending them all")
        return 0, _send(client, make(blobs, image), image, reporter)


def _forget_parts(client: DockerClient, image: LoadableImage, reporter: Reporter) -> None:
    """Remove the untagged images that held the image's lower layers.

    Also where another load brought the image: ours may have sent parts meanwhile. Two loads that
    remove one part at once get in each other's way, so what is still there is asked for again.
    """
    for attempt in range(1, REMOVALS + 1):
        refused = [
            error for part in _parts(client, image.diff_ids) if (error := _removed(client, part))
        ]
        if not refused:
            return
        if attempt < REMOVALS:
            time.sleep(attempt * REMOVAL_SECONDS)
    reporter.warn(
        f"{len(refused)} untagged images that held layers of {_name(image)} are left in the "
        f"engine ({explain_failure(refused[0])}); remove them: docker image prune"
    )


def _forget_halves(
    client: DockerClient, diff_ids: Sequence[str], manifest: str | None = None
) -> None:
    """Remove what a load that failed has left in containerd's store.

    It lists an image before it has all its layers, and goes on listing it when one is refused:
    the next load would take it for whole.
    """
    with suppress(DockerException, requests.RequestException):
        for part in _parts(client, diff_ids):
            _removed(client, part)
        if manifest is not None:
            client.api.remove_image(manifest, force=True, noprune=True)


def _parts(client: DockerClient, diff_ids: Sequence[str]) -> list[str]:
    """The ids of the untagged images that hold the lower ones of these layers."""
    parts = [x["Id"] for x in client.api.images(all=True, filters={"label": PART_LABEL})]
    held = {part: layers_of(inspect_image(client, part) or {"RootFS": {}}) for part in parts}
    return [part for part, layers in held.items() if layers == tuple(diff_ids)[: len(layers)]]


def _removed(client: DockerClient, part: str) -> str | None:
    """Remove an image that may be gone already; why the engine would not."""
    try:
        client.api.remove_image(part, noprune=True)
    except NotFound:
        return None
    except DockerException as error:
        return str(error)
    return None


def _tag(client: DockerClient, image_id: str, image: LoadableImage) -> bool:
    """Tag the image if it is there; says whether it is."""
    present = inspect_image(client, image_id)
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
    with reporter.task(f"load {_name(image)}", total, "bytes") as task:
        _post(client, _counted(stream(members), task))
    return total


def _name(image: LoadableImage) -> str:
    return image.tags[0] if image.tags else image.config


def _post(client: DockerClient, chunks: Iterator[bytes]) -> None:
    api: Any = client.api  # a generator makes requests send chunks; the stubs know only bytes
    for message in api.load_image(chunks, quiet=False):
        error = str(message.get("error", ""))
        if error and not error.endswith(ALREADY):
            raise EngineError(explain_failure(error))


def _counted(chunks: Iterator[bytes], task: Task) -> Iterator[bytes]:
    for chunk in chunks:
        if chunk:  # an empty chunk would end the request
            yield chunk
            task.advance(len(chunk))


def _verified(client: DockerClient, image: LoadableImage, expected: str | None) -> str:
    """The id of the image just sent; raises EngineError when it is not the one in the layout."""
    name = image.tags[0] if image.tags else expected or image.config
    facts = inspect_image(client, name)
    if facts is None:
        raise EngineError(f"the engine took {name} without an error, but does not have it")
    found: str = facts["Id"]
    if expected is not None and found != expected:
        raise EngineError(f"{name} was loaded as {found}, but the layout says {expected}")
    if layers_of(facts) != image.diff_ids:
        raise EngineError(f"{name} was loaded with other layers than the layout has")
    return found
