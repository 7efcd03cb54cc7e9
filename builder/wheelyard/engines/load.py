"""Loads from an OCI layout into a Docker Engine: whole images, and layers before their image."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from docker.errors import DockerException, NotFound

from wheelyard.engines.ahead import PART, PART_LABEL, Ahead, ClassicStore, is_gone
from wheelyard.engines.docker import (
    SILENCE,
    explain_failure,
    inspect_image,
    is_local,
    layers_of,
    present_layers,
    uses_containerd,
)
from wheelyard.errors import EngineError
from wheelyard.oci.archive import (
    ArchiveMember,
    LoadableImage,
    archive_size,
    loadable_layers,
    make_archive,
    make_inflated_archive,
    require_whole,
    shared_layers,
    stream,
)
from wheelyard.oci.layout import digest_of

if TYPE_CHECKING:
    from docker import DockerClient

    from wheelyard.console.tasks import Reporter, Task


_ALREADY = "already exists"  # containerd's message about what another load brought at the same time
_REMOVALS = 5  # attempts to remove the parts of an image that is there
_REMOVAL_SECONDS = 0.5  # before the second; longer before each further one
_NOTHING: dict[str, Any] = {"RootFS": {}}


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result for an image."""

    id: str  # the engine's id of it
    sent: int  # bytes; 0 when the engine had it


def load(
    client: DockerClient,
    blobs: Path,
    images: Sequence[LoadableImage],
    reporter: Reporter,
    *,
    part: int = PART,
) -> tuple[Loaded, ...]:
    """Load images of an OCI layout into the engine, under all their tags.

    `blobs` is the layout's `blobs/sha256`. An existing image is only tagged, and existing layers
    are not sent again. Docker's classic store gets layers in parts of `part` bytes or more. Raises
    EngineError with the engine's message.
    """
    client.api.timeout = SILENCE
    loading = _Loading(client, blobs, reporter, part, uses_containerd(client))
    try:
        return tuple(map(loading.load, images))
    except (DockerException, requests.RequestException) as error:
        raise EngineError(explain_failure(str(error))) from error


@contextmanager
def ahead(
    client: DockerClient, blobs: Path, name: str, reporter: Reporter, *, part: int = PART
) -> Iterator[Ahead]:
    """Send layers of the image `name` to a classic store before the image is finished.

    `blobs` is a folder of blobs by their SHA-256. The layers stay in the engine as untagged images
    until `load` has loaded the image itself.
    """
    client.api.timeout = SILENCE
    with ExitStack() as stack:
        lock = threading.Lock()
        tasks: list[Task] = []

        def send(chunks: Iterator[bytes]) -> None:
            with lock:  # no bar for nothing: the engine may have every layer
                if not tasks:
                    tasks.append(stack.enter_context(reporter.task(f"load {name}", None, "bytes")))
            try:
                _post(client, _counted(chunks, tasks[0]))
            except (DockerException, requests.RequestException) as error:
                raise EngineError(explain_failure(str(error))) from error

        store = ClassicStore(blobs, present_layers(client), inflate=is_local(client))
        with Ahead(store, send, least=part) as sender:
            try:
                yield sender
            except EngineError:  # its message names no file
                require_whole(blobs, [layer.digest for layer in sender.offered])
                raise


@dataclass(frozen=True, slots=True)
class _Loading:
    """What all images of one call share."""

    client: DockerClient
    blobs: Path
    reporter: Reporter
    part: int
    containerd: bool

    def load(self, image: LoadableImage) -> Loaded:
        """Load an image; if the engine refuses it, StorageError names a damaged blob."""
        try:
            loaded = self._load(image)
        except EngineError:
            if self.containerd:
                self._forget(image)
            require_whole(self.blobs, [image.config, *(blob for blob, _diff_id in image.layers)])
            raise
        self._forget_parts(image)
        return loaded

    def _load(self, image: LoadableImage) -> Loaded:
        expected = image.manifest if self.containerd else image.config
        if expected is not None and self._tag(expected, image):
            return Loaded(expected, 0)
        sent = 0
        if not self.containerd and sum(image.sizes[self._present(image) :]) > self.part:
            sent = self._send_parts(image)
        sent += self._send_rest(image)
        return Loaded(self._verified(image, expected), sent)

    def _present(self, image: LoadableImage) -> int:
        """Count the lowest layers that the engine has.

        Docker's classic store knows a layer by its diff_id and those below it. containerd's store
        keeps blobs, and certainly has those of an image that it lists by a manifest of the layout.
        """
        if not self.containerd:
            return shared_layers(image.diff_ids, present_layers(self.client))
        manifests = {found["Id"] for found in self.client.api.images(all=True)}
        known = (_known_layers(self.blobs, manifest) for manifest in manifests)
        return shared_layers([blob for blob, _diff_id in image.layers], known)

    def _send_parts(self, image: LoadableImage) -> int:
        with ahead(self.client, self.blobs, _name(image), self.reporter, part=self.part) as sender:
            for layer in loadable_layers(image):
                sender.offer(layer)
            sender.finish()
            return sender.sent

    def _send_rest(self, image: LoadableImage) -> int:
        """Send what the engine lacks; return the bytes."""
        omit = self._present(image)
        inflate = image.sizes and not self.containerd and is_local(self.client)
        make = make_inflated_archive if inflate else make_archive
        try:
            return self._send(make(self.blobs, image, omit), image)
        except EngineError as error:
            if not omit or not is_gone(error):
                raise
            self.reporter.warn(
                "an image went away while its layers were counted on: sending them all"
            )
            return self._send(make(self.blobs, image), image)

    def _send(self, members: Sequence[ArchiveMember], image: LoadableImage) -> int:
        total = archive_size(members)
        with self.reporter.task(f"load {_name(image)}", total, "bytes") as task:
            _post(self.client, _counted(stream(members), task))
        return total

    def _forget_parts(self, image: LoadableImage) -> None:
        """Remove the untagged images that held the image's lower layers.

        Also if another load brought the image: ours may have sent parts meanwhile. Two loads that
        remove one part at once disturb each other, so what is still there is removed again.
        """
        for attempt in range(1, _REMOVALS + 1):
            parts = self._parts(image.diff_ids)
            refused = [error for part in parts if (error := _removed(self.client, part))]
            if not refused:
                return
            if attempt < _REMOVALS:
                time.sleep(attempt * _REMOVAL_SECONDS)
        self.reporter.warn(
            f"{len(refused)} untagged images that held layers of {_name(image)} are left in the "
            f"engine ({explain_failure(refused[0])}); remove them: docker image prune"
        )

    def _parts(self, diff_ids: Sequence[str]) -> list[str]:
        """Find the untagged images that hold the lower ones of these layers; return their ids."""
        listed = self.client.api.images(all=True, filters={"label": PART_LABEL})
        parts = [image["Id"] for image in listed]
        held = {part: layers_of(inspect_image(self.client, part) or _NOTHING) for part in parts}
        return [part for part, layers in held.items() if layers == tuple(diff_ids)[: len(layers)]]

    def _forget(self, image: LoadableImage) -> None:
        """Remove what a failed load has left in containerd's store.

        It lists an image before it has all its layers, and keeps listing it if one is refused: the
        next load would take it for complete.
        """
        if image.manifest is not None:
            with suppress(DockerException, requests.RequestException):
                self.client.api.remove_image(image.manifest, force=True, noprune=True)

    def _tag(self, image_id: str, image: LoadableImage) -> bool:
        """Tag the image if it exists; return whether it does."""
        present = inspect_image(self.client, image_id)
        if present is None:
            return False
        for tag in set(image.tags) - set(present.get("RepoTags") or ()):
            repository, _, name = tag.rpartition(":")
            self.client.api.tag(image_id, repository, name)
        return True

    def _verified(self, image: LoadableImage, expected: str | None) -> str:
        """Return the id of the image just sent; EngineError if it is not the layout's."""
        name = image.tags[0] if image.tags else expected or image.config
        facts = inspect_image(self.client, name)
        if facts is None:
            raise EngineError(f"the engine took {name} without an error, but does not have it")
        image_id: str = facts["Id"]
        if expected is not None and image_id != expected:
            raise EngineError(f"{name} was loaded as {image_id}, but the layout says {expected}")
        if layers_of(facts) != image.diff_ids:
            raise EngineError(f"{name} was loaded with other layers than the layout has")
        return image_id


def _known_layers(blobs: Path, manifest: str) -> tuple[str, ...]:
    """Return the digests of a manifest's layers; empty if the layout is incomplete."""
    try:
        data = (blobs / manifest.partition(":")[2]).read_bytes()
    except OSError:
        return ()
    if digest_of(data) != manifest:
        return ()
    return tuple(layer["digest"] for layer in json.loads(data).get("layers", ()))


def _removed(client: DockerClient, part: str) -> str | None:
    """Remove an image that may be gone already; return why the engine refused, if it did."""
    try:
        client.api.remove_image(part, noprune=True)
    except NotFound:
        return None
    except DockerException as error:
        return str(error)
    return None


def _name(image: LoadableImage) -> str:
    return image.tags[0] if image.tags else image.config


def _post(client: DockerClient, chunks: Iterator[bytes]) -> None:
    api: Any = client.api  # a generator makes requests send chunks; the stubs know only bytes
    for message in api.load_image(chunks, quiet=False):
        error = str(message.get("error", ""))
        if error and not error.endswith(_ALREADY):
            raise EngineError(explain_failure(error))


def _counted(chunks: Iterator[bytes], task: Task) -> Iterator[bytes]:
    for chunk in chunks:
        if chunk:  # an empty chunk would end the request
            yield chunk
            task.advance(len(chunk))
