"""From the tests' view of an image to the one that the engine module takes."""

from __future__ import annotations

from builder.engines.archive import LoadableImage
from tests.image.layout import BuiltImage


def loadable(image: BuiltImage) -> LoadableImage:
    diff_ids = image.config["rootfs"]["diff_ids"]
    return LoadableImage(
        config=image.manifest["config"]["digest"],
        layers=tuple(zip(image.layers, diff_ids, strict=True)),
        tags=image.tags,
        manifest=image.digest,
    )
