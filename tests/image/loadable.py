"""From the tests' view of an image to the one that the engine module takes."""

from __future__ import annotations

from builder.assemble.layout import Layout
from builder.building import loading
from builder.building.report import unpacked_sizes
from builder.engines.archive import LoadableImage
from tests.image.layout import BuiltImage


def loadable(image: BuiltImage) -> LoadableImage:
    sizes = unpacked_sizes(image.dist)
    return loading.loadable(Layout(image.dist), image.digest, image.tags, sizes)
