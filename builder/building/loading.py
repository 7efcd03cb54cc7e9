"""From a finished image in a layout to a container engine, if there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from builder.assemble.image import Image
    from builder.assemble.layout import Layout
    from builder.context import Context
    from builder.engines.archive import LoadableImage

    Loader = Callable[[Image, Sequence[str], Layout], None]
    # layout, manifest's digest, tags, unpacked bytes of blobs by their digest
    Receiver = Callable[[Layout, str, Sequence[str], Mapping[str, int]], None]


def find_loader(wanted: bool | None, context: Context) -> Loader | None:
    """How images get into an engine, under their tags.

    `wanted` False: not at all. None: into an engine if one answers, with a warning when one is
    there but cannot be used. True: EngineError when none can be used.
    """
    give = find_receiver(wanted, context)
    if give is None:
        return None

    def send(image: Image, tags: Sequence[str], layout: Layout) -> None:
        sizes = {
            layer.stored.layer.digest: layer.stored.layer.unpacked_size for layer in image.layers
        }
        give(layout, image.manifest.digest, tags, sizes)

    return send


def find_receiver(wanted: bool | None, context: Context) -> Receiver | None:
    """The same for an image that is known by its manifest alone."""
    if wanted is False:
        return None
    from builder.engines.docker import connect, load

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

    def give(layout: Layout, manifest: str, tags: Sequence[str], sizes: Mapping[str, int]) -> None:
        load(client, layout.blobs, [loadable(layout, manifest, tags, sizes)], context.reporter)

    return give


def loadable(
    layout: Layout, manifest: str, tags: Sequence[str], sizes: Mapping[str, int]
) -> LoadableImage:
    """An image of a layout as an engine needs to know it; `sizes` may lack some."""
    from builder.engines.archive import LoadableImage

    content = layout.read_json(manifest)
    config = content["config"]["digest"]
    digests = [layer["digest"] for layer in content["layers"]]
    return LoadableImage(
        config,
        tuple(zip(digests, layout.read_json(config)["rootfs"]["diff_ids"], strict=True)),
        tuple(tags),
        manifest,
        tuple(sizes[x] for x in digests) if all(x in sizes for x in digests) else (),
    )
