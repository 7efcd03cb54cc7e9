"""From the tests' view of an image to the one that the engine module takes."""

from __future__ import annotations

from tests.image.layout import BuiltImage
from wheelyard.images.build import loading
from wheelyard.images.build.report import unpacked_sizes
from wheelyard.oci.archive import LoadableImage
from wheelyard.oci.layout import Layout


def loadable(image: BuiltImage) -> LoadableImage:
    sizes = unpacked_sizes(image.dist)
    return loading.loadable(Layout(image.dist), image.digest, image.tags, sizes)
