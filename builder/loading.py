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


def find_loader(wanted: bool | None, context: Context) -> Loader | None:
    """How images get into an engine, under their tags.

    `wanted` False: not at all. None: into an engine if one answers, with a warning when one is
    there but cannot be used. True: EngineError when none can be used.
    """
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

    def send(image: Image, tags: Sequence[str], layout: Layout) -> None:
        layers = tuple((x.stored.layer.digest, x.stored.layer.diff_id) for x in image.layers)
        loadable = LoadableImage(image.config.digest, layers, tuple(tags), image.manifest.digest)
        load(client, layout.blobs, [loadable], context.reporter)

    return send
