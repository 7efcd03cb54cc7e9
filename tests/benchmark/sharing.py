"""How much of the slice's images is stored once: bytes of `dist/` by the sum of the images."""

from __future__ import annotations

from pathlib import Path

from tests.benchmark.measure import Measurement, NotMeasuredError
from tests.benchmark.place import Place
from tests.image.layout import BuiltImage, read_built
from wheelyard.planning.plan import load_plan
from wheelyard.planning.selector import select

SLICE = "cuda12.1"
LIMIT = 0.33


def measure(place: Place, _runs: int | None) -> list[Measurement]:
    """Sizes on disk, of the files that the images' manifests name."""
    dist = place.project / "dist"
    wanted = {cell.id for cell in select(load_plan(place.project), SLICE)}
    images = [image for image in read_built(dist) if image.id in wanted]
    if missing := wanted - {image.id for image in images}:
        raise NotMeasuredError(
            f"{dist} lacks {', '.join(sorted(missing))}; run `make build MATRIX={SLICE}` first"
        )
    shared = {path for image in images for path in blobs(image)}
    single = sum(path.stat().st_size for image in images for path in blobs(image))
    rest = [path for path in dist.iterdir() if path.is_file()]  # the layout's own few files
    total = sum(path.stat().st_size for path in [*shared, *rest])
    return [
        Measurement(
            "sharing", f"bytes in dist/ of {len(images)} images", float(total), "bytes",
            "the images' compressed sizes, added", float(single), LIMIT, "ratio",
            {"blobs": len(shared), "images": sorted(wanted)},
        )
    ]  # fmt: skip


def blobs(image: BuiltImage) -> set[Path]:
    """All files of an image in its layout."""
    digests = [image.digest, image.manifest["config"]["digest"], *image.layers]
    return {image.blob(digest) for digest in digests}
