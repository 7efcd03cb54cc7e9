"""Loads finished images from a layout into a container engine, if there is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wheelyard.errors import EngineError

if TYPE_CHECKING:
    from docker import DockerClient

    from wheelyard.console.tasks import Reporter
    from wheelyard.context import Context
    from wheelyard.images.assemble.image import Image
    from wheelyard.layers.layer import Layer
    from wheelyard.oci.archive import LoadableImage
    from wheelyard.oci.layout import Layout


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads images into the engine that answers."""

    client: DockerClient
    reporter: Reporter

    def image(self, image: Image, tags: Sequence[str], layout: Layout) -> None:
        """Load a finished image; raise EngineError."""
        stored = [layer.stored.layer for layer in image.layers]
        sizes = {layer.digest: layer.unpacked_size for layer in stored}
        self.manifest(layout, image.manifest.digest, tags, sizes)

    def manifest(
        self, layout: Layout, manifest: str, tags: Sequence[str], sizes: Mapping[str, int]
    ) -> None:
        """Load an image of which only its manifest's digest is known.

        `sizes` are the unpacked sizes of layers by their blobs' digest, in bytes, if known.
        """
        from wheelyard.engines.load import load

        image = loadable(layout, manifest, tags, sizes)
        load(self.client, layout.blobs, [image], self.reporter)

    @contextmanager
    def ahead(self, blobs: Path, name: str) -> Iterator[Receiver]:
        """Return a receiver for the layers of the image `name` while it is made; leaving stops it.

        `blobs` is a folder of blobs by their SHA-256. containerd's store loads a whole image just
        as fast as its parts, so it receives nothing before the image is finished.
        """
        from wheelyard.engines.docker import uses_containerd
        from wheelyard.engines.load import ahead

        if uses_containerd(self.client):
            yield NullReceiver()
            return
        with ahead(self.client, blobs, name, self.reporter) as sender:
            yield sender


class Receiver(Protocol):
    """Receives an image's layers, lowest first, before the image is finished."""

    def offer(self, layer: Layer) -> None:
        """Take a layer, which is on top of those that were offered before."""

    def finish(self) -> None:
        """Wait until all layers have been stored; raise EngineError, StorageError."""


class NullReceiver:
    """Receiver that discards layers (when there is no engine to load them into)."""

    def offer(self, layer: Layer) -> None:
        """Discard the layer."""

    def finish(self) -> None:
        """Return at once."""


def find_loader(wanted: bool | None, context: Context) -> Loader | None:
    """Return the loader of images, or None.

    `wanted` False: do not load. None: load if an engine answers, with a warning if one is there but
    cannot be used. True: raise EngineError if none can be used.
    """
    if wanted is False:
        return None
    from wheelyard.engines.docker import connect

    try:
        client = connect()
    except EngineError as error:
        if wanted:
            raise
        context.reporter.warn(f"images are not loaded into an engine: {error}")
        return None
    if client is None:
        if wanted:
            raise EngineError("no Docker Engine answers; start one, or use --no-load")
        return None
    return Loader(client, context.reporter)


def loadable(
    layout: Layout, manifest: str, tags: Sequence[str], sizes: Mapping[str, int]
) -> LoadableImage:
    """Describe an image of a layout as an engine needs it; `sizes` may lack some layers."""
    from wheelyard.oci.archive import LoadableImage

    content, config = layout.read_image(manifest)
    digests = [layer["digest"] for layer in content["layers"]]
    return LoadableImage(
        content["config"]["digest"],
        tuple(zip(digests, config["rootfs"]["diff_ids"], strict=True)),
        tuple(tags),
        manifest,
        tuple(sizes[x] for x in digests) if all(x in sizes for x in digests) else (),
    )
