"""`build.json`: a report of the images in a folder."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.digests import Digest
from wheelyard.oci.blobs import parse_layer
from wheelyard.planning.tags import axes
from wheelyard.system.textfiles import write_text

if TYPE_CHECKING:
    from wheelyard.images.build.results import Built, EngineImage
    from wheelyard.model import Cell

NAME = "build.json"
LOCK_NAME = ".wheelyard.lock"  # held by the process that writes to the folder


def read_report(output: Path) -> list[dict[str, Any]]:
    """Return the images listed in `output`; none if there is no readable report.

    A malformed entry is left out: its image counts as not built.
    """
    try:
        images = json.loads((output / NAME).read_text())["images"]
        return [image for image in images if _is_image(image)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _is_image(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("inspected", {}), dict):
        return False
    try:
        titles = [layer["title"] for layer in entry["layers"] if parse_layer(layer)]
        texts = [entry["id"], Digest.parse(entry["digest"]), *entry["tags"], *titles]
    except (ValueError, KeyError, TypeError):
        return False
    return all(isinstance(text, str) for text in texts)


def unpacked_sizes(output: Path) -> dict[str, int]:
    """Return the unpacked bytes of the layers in the report of `output`, by blob digest."""
    layers = (layer for image in read_report(output) for layer in image.get("layers", ()))
    return {layer["digest"]: layer["unpacked_size"] for layer in layers}


def write_report(output: Path, built: Iterable[Built], still_there: set[str]) -> None:
    """Add `built` to the report; keep earlier images while their digest is `still_there`."""
    merge_report(output, map(image_json, built), still_there)


def merge_report(
    output: Path, images: Iterable[dict[str, Any]], still_there: Collection[str]
) -> None:
    """Add entries to the report; keep earlier ones while their digest is `still_there`."""
    fresh = {image["id"]: image for image in images}
    kept = [
        image
        for image in read_report(output)
        if image["id"] not in fresh and image["digest"] in still_there
    ]
    listed = sorted([*kept, *fresh.values()], key=lambda image: str(image["id"]))
    write_text(output / NAME, json.dumps({"version": 1, "images": listed}, indent=1) + "\n")


def image_json(built: Built) -> dict[str, Any]:
    """Return one image as JSON; sizes in bytes, times in seconds."""
    cell, image = built.cell, built.image
    return {
        **_cell_json(cell),
        "digest": image.manifest.digest,
        "config": image.config.digest,
        "compressed_bytes": image.size,
        "unpacked_bytes": image.unpacked_size,
        "new_bytes": built.new_bytes,
        "seconds": {part: round(time, 3) for part, time in built.seconds.items()},
        "loaded": built.loaded,
        "bases": dict(built.bases),
        "layers": [{"title": layer.title, **asdict(layer.stored.layer)} for layer in image.layers],
        "inspected": {finding.name: finding.seen for finding in built.findings},
    }


def engine_json(built: EngineImage) -> dict[str, Any]:
    """Return an image that an engine has built as JSON; sizes in bytes, times in seconds."""
    return {
        **_cell_json(built.cell),
        "image": built.id,
        "unpacked_bytes": built.size,
        "seconds": {part: round(time, 3) for part, time in built.seconds.items()},
        "log": str(built.log),
        "inspected": {finding.name: finding.seen for finding in built.findings},
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {
        "id": cell.id,
        "tags": list(cell.tags),
        **axes(cell),
    }
