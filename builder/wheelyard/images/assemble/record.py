"""images/layers.json: what layers are known to be, so that publishing need not make them.

A committed file, trusted like the locks beside it. A layer is recorded under its key, an image
under its id together with the result of its inspection.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from wheelyard.errors import LockError
from wheelyard.oci.blobs import parse_layer
from wheelyard.system.textfiles import write_text

if TYPE_CHECKING:
    from wheelyard.contract.imageconfig import ImageConfig
    from wheelyard.images.assemble.image import ImageLayer
    from wheelyard.layers.layer import Layer

PATH = PurePosixPath("images", "layers.json")
_VERSION = 1


@dataclass(frozen=True, slots=True)
class KnownImage:
    """What a build found out about an image."""

    contents: str  # contents_digest of what was inspected
    inspected: Mapping[str, str]  # property -> its value
    links: Mapping[str, str] = field(default_factory=dict)  # of the compiler: link -> target


@dataclass(frozen=True, slots=True)
class LayersRecord:
    """The whole file."""

    layers: Mapping[str, Layer] = field(default_factory=dict)  # by key
    titles: Mapping[str, str] = field(default_factory=dict)  # by key; for people who read the file
    images: Mapping[str, KnownImage] = field(default_factory=dict)  # by id


def contents_digest(config: ImageConfig, layers: Sequence[ImageLayer]) -> str:
    """Return a hash of what an inspection covers: the user and `layers`, without the final layer.

    The final layer holds selfcheck, the cell and links, and is written again wherever it is needed.
    An inspection reads nothing else of the config, so other labels do not invalidate it.
    """
    diff_ids = [layer.stored.layer.diff_id for layer in layers]
    text = json.dumps({"user": config.user, "diff_ids": diff_ids}, sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def read_record(project: Path) -> LayersRecord:
    """Read the project's record, empty if there is none; LockError if it is malformed."""
    path = project / PATH
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return LayersRecord()
    except (OSError, ValueError, RecursionError) as error:
        raise LockError(f"{path} cannot be read ({error}); {_ADVICE}") from error
    try:
        return _parsed(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LockError(f"{path} is not a record of layers ({error!r}); {_ADVICE}") from error


_ADVICE = "restore it, or write it again: wheelyard layers record SELECTOR"


def _parsed(content: Mapping[str, Any]) -> LayersRecord:
    if content["version"] != _VERSION:
        raise ValueError(f"version {content['version']}")
    layers = content["layers"]
    return LayersRecord(
        layers={key: parse_layer(entry) for key, entry in layers.items()},
        titles={key: str(entry["title"]) for key, entry in layers.items()},
        images={name: _image(entry) for name, entry in content["images"].items()},
    )


def _image(entry: Mapping[str, Any]) -> KnownImage:
    return KnownImage(
        str(entry["contents"]), dict(entry["inspected"]), dict(entry.get("links", {}))
    )


def write_record(project: Path, record: LayersRecord) -> None:
    """Replace the project's record; the same content results in the same bytes."""
    content = {
        "version": _VERSION,
        "layers": {
            key: {"title": record.titles[key], **asdict(layer)}
            for key, layer in record.layers.items()
        },
        "images": {
            name: {key: value for key, value in asdict(image).items() if value}
            for name, image in record.images.items()
        },
    }
    write_text(project / PATH, json.dumps(content, indent=1, sort_keys=True) + "\n")
