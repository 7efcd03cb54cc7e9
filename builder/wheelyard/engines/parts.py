"""Untagged images of an image's lower layers, by which these come into an engine before the rest.

Each image store has a form of its own, and its own way to tell what it has. Docker's classic store
knows a layer by its diff_id and those below it. containerd's keeps blobs, which an image found
there by its manifest's digest surely has: the part of an earlier load, or an image of the layout.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from wheelyard.errors import StorageError
from wheelyard.layers.layer import Layer
from wheelyard.oci.archive import (
    Member,
    blob_member,
    classic_archive,
    json_member,
    oci_archive,
    shared_layers,
)
from wheelyard.oci.layout import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, digest_of

PART_LABEL = "wheelyard.part"  # on images that only hold layers until the image itself is there
PART_CONFIG: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Labels": {PART_LABEL: "1"}},
}
Named = tuple[str, str]  # a layer: (blob digest, diff_id)


class Form(Protocol):
    """How an image store takes parts."""

    def present(self, layers: Sequence[Named]) -> int:
        """How many of these layers, lowest first, the engine had when it was asked."""
        ...

    def pack(self, layers: Sequence[Layer], omit: int) -> tuple[Member, ...]:
        """The members of a tar: an untagged image of `layers` without the `omit` lowest blobs.

        Raises StorageError when a blob is missing.
        """
        ...


@dataclass(frozen=True, slots=True)
class ClassicForm:
    """Parts for Docker's classic store."""

    blobs: Path  # a layout's `blobs/sha256`
    images: Sequence[Sequence[str]]  # the diff_ids of every image the engine has
    inflate: bool  # tars are sent, not blobs

    def present(self, layers: Sequence[Named]) -> int:
        """By diff_id."""
        return shared_layers([diff_id for _blob, diff_id in layers], self.images)

    def pack(self, layers: Sequence[Layer], omit: int) -> tuple[Member, ...]:
        """Docker's `manifest.json`, and blobs or tars."""
        config = json_member("config.json", part_config([layer.diff_id for layer in layers]))
        return classic_archive(self.blobs, layers, config, (), omit, inflate=self.inflate)


@dataclass(frozen=True, slots=True)
class ContainerdForm:
    """Parts for containerd's store."""

    blobs: Path  # where the layers' blobs lie, by SHA-256
    manifests: Collection[str]  # digests of the engine's images
    images: Sequence[Sequence[str]]  # the layers' digests of those whose manifest is known

    def present(self, layers: Sequence[Named]) -> int:
        """By the manifests of parts, and of images that the layout has as well."""
        digests = [blob for blob, _diff_id in layers]
        known = shared_layers(digests, self.images)
        counts = range(len(layers), known, -1)
        parts = (count for count in counts if self._has_part(layers[:count]))
        return next(parts, known)

    def pack(self, layers: Sequence[Layer], omit: int) -> tuple[Member, ...]:
        """An OCI layout with one manifest."""
        named = [(layer.digest, layer.diff_id) for layer in layers]
        return oci_archive(
            self.blobs,
            self._manifest(named),
            _config_text(named),
            [x.digest for x in layers[omit:]],
        )

    def _has_part(self, layers: Sequence[Named]) -> bool:
        try:
            return digest_of(self._manifest(layers)) in self.manifests
        except StorageError:  # a blob is missing, which is said when it is sent
            return False

    def _manifest(self, layers: Sequence[Named]) -> bytes:
        config = _config_text(layers)
        sizes = ((blob, blob_member(self.blobs, blob).size) for blob, _diff_id in layers)
        return _text(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": _descriptor(CONFIG_TYPE, digest_of(config), len(config)),
                "layers": [_descriptor(LAYER_TYPE, blob, size) for blob, size in sizes],
            }
        )


def containerd_form(blobs: Path, layout: Path, manifests: Collection[str]) -> ContainerdForm:
    """The form of an engine with images of these digests.

    `blobs` is where the layers' blobs lie, by SHA-256, `layout` where manifests may, likewise.
    """
    return ContainerdForm(blobs, manifests, [_layers_of(layout, digest) for digest in manifests])


def _layers_of(layout: Path, manifest: str) -> tuple[str, ...]:
    """The layers' digests of a manifest that the layout has whole; none otherwise."""
    try:
        data = (layout / manifest.partition(":")[2]).read_bytes()
    except OSError:
        return ()
    if digest_of(data) != manifest:
        return ()
    content = json.loads(data)
    return tuple(layer["digest"] for layer in content.get("layers", ()))


def part_config(diff_ids: Sequence[str]) -> dict[str, Any]:
    """The config of an image of nothing but layers."""
    return PART_CONFIG | {"rootfs": {"type": "layers", "diff_ids": list(diff_ids)}}


def _config_text(layers: Sequence[Named]) -> bytes:
    return _text(part_config([diff_id for _blob, diff_id in layers]))


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def _text(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
