"""Images of a few bytes, made here: what an engine does with layers does not depend on content."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

from wheelyard.layers.layer import Layer
from wheelyard.oci.archive import LoadableImage, loadable_layers
from wheelyard.oci.layout import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def store(blobs: Path, content: bytes) -> str:
    digest = digest_of(content)
    (blobs / digest.partition(":")[2]).write_bytes(content)
    return digest


def make_layer(blobs: Path, name: str, content: bytes) -> tuple[str, str]:
    """A layer with one file; its blob's digest and its diff_id."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    raw = packed.getvalue()
    return store(blobs, gzip.compress(raw, mtime=0)), digest_of(raw)


def make_image(
    blobs: Path, tags: tuple[str, ...], *layers: tuple[str, str], label: str = ""
) -> LoadableImage:
    """An image of these layers in the layout's `blobs/sha256`."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {"label": label}},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _blob, diff_id in layers]},
    }
    text = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": store(blobs, text), "size": len(text)},
        "layers": [
            {
                "mediaType": LAYER_TYPE,
                "digest": blob,
                "size": (blobs / blob.partition(":")[2]).stat().st_size,
            }
            for blob, _diff_id in layers
        ],
    }
    digest = store(blobs, json.dumps(manifest).encode())
    return LoadableImage(digest_of(text), layers, tags, digest)


def sized(blobs: Path, image: LoadableImage) -> LoadableImage:
    """The image, with its tars' sizes known: only then is it sent in parts and inflated."""
    packed = [(blobs / blob.partition(":")[2]).read_bytes() for blob, _diff_id in image.layers]
    return replace(image, sizes=tuple(len(gzip.decompress(content)) for content in packed))


def layers_of(blobs: Path, image: LoadableImage) -> list[Layer]:
    """The image's layers, as a build knows them."""
    return list(loadable_layers(sized(blobs, image)))
