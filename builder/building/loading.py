"""From a finished image in a layout to a container engine, if there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.assemble.image import Image
    from builder.assemble.layout import Layout
    from builder.context import Context

    Loader = Callable[[Image, Sequence[str], Layout], None]
    Receiver = Callable[[Layout, str, Sequence[str]], None]  # layout, manifest's digest, tags


def find_loader(wanted: bool | None, context: Context) -> Loader | None:
    """How images get into an engine, under their tags.

    `wanted` False: not at all. None: into an engine if one answers, with a warning when one is
    there but cannot be used. True: EngineError when none can be used.
    """
    give = find_receiver(wanted, context)
    if give is None:
        return None

    def send(image: Image, tags: Sequence[str], layout: Layout) -> None:
        give(layout, image.manifest.digest, tags)

    return send


def find_receiver(wanted: bool | None, context: Context) -> Receiver | None:
    """The same for an image that is known by its manifest alone."""
    if wanted is False:
        return None
    from builder.engines.docker import LoadableImage, connect, load

    try:
        client = connect()
    except EngineError as error:
        if wanted:
            raise
        context.reporter.warn(f"images are not loaded into an engine: {error}")
        return None
    if client is None:
        if wanted:
            raise EngineError("no Docker Engine answers here; start one, or use --no-load")
        return None

    def give(layout: Layout, manifest: str, tags: Sequence[str]) -> None:
        content = layout.read_json(manifest)
        config = content["config"]["digest"]
        diff_ids = layout.read_json(config)["rootfs"]["diff_ids"]
        digests = [layer["digest"] for layer in content["layers"]]
        layers = tuple(zip(digests, diff_ids, strict=True))
        loadable = LoadableImage(config, layers, tuple(tags), manifest)
        load(client, layout.blobs, [loadable], context.reporter)

    return give
