"""Makes an image from its layers: config and manifest, without a clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wheelyard.layers.tarheader import EPOCH
from wheelyard.oci.layout import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, Descriptor, canonical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wheelyard.contract.imageconfig import ImageConfig
    from wheelyard.oci.blobs import StoredLayer
    from wheelyard.oci.layout import Layout

# Of an image whose lock has no date.
_CREATED = datetime.fromtimestamp(EPOCH, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """A layer, and its line in `docker history`."""

    stored: StoredLayer
    title: str
    from_wheels: bool  # two such layers must not hold one path with different bytes


@dataclass(frozen=True, slots=True)
class Image:
    """A finished image in a layout."""

    manifest: Descriptor
    config: Descriptor
    layers: tuple[ImageLayer, ...]

    @property
    def size(self) -> int:
        """Compressed bytes: the cost of a pull onto an empty machine."""
        return (
            self.manifest.size
            + self.config.size
            + sum(layer.stored.layer.size for layer in self.layers)
        )

    @property
    def unpacked_size(self) -> int:
        """Size of the layers' tars, in bytes."""
        return sum(layer.stored.layer.unpacked_size for layer in self.layers)


def write_image(layout: Layout, config: ImageConfig, layers: Sequence[ImageLayer]) -> Image:
    """Put layers, config and manifest into `layout`; no reference is set yet."""
    for layer in layers:
        layout.put_layer(layer.stored)
    return describe_image(layout, config, layers)


def describe_image(layout: Layout, config: ImageConfig, layers: Sequence[ImageLayer]) -> Image:
    """Put only config and manifest into `layout`; the layers' blobs may be missing."""
    descriptors = [
        Descriptor(LAYER_TYPE, x.stored.layer.digest, x.stored.layer.size) for x in layers
    ]
    config_blob = layout.put(canonical(_config_json(config, layers)), CONFIG_TYPE)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config_blob.as_json(),
        "layers": [descriptor.as_json() for descriptor in descriptors],
        "annotations": {
            name: value
            for name, value in config.labels
            if name.startswith("org.opencontainers.image.")
        },
    }
    return Image(layout.put(canonical(manifest), MANIFEST_TYPE), config_blob, tuple(layers))


def _config_json(config: ImageConfig, layers: Sequence[ImageLayer]) -> dict[str, Any]:
    """Return the image config (OCI image-spec 1.1, config.md)."""
    created = config.created or _CREATED
    return {
        "created": created,
        "architecture": config.architecture,
        "os": "linux",
        "config": {
            "User": config.user,
            "Env": [f"{name}={value}" for name, value in config.env],
            "Entrypoint": list(config.entrypoint),
            "Cmd": list(config.cmd),
            "WorkingDir": config.workdir,
            "StopSignal": config.stop_signal,
            "Healthcheck": {"Test": ["NONE"]},  # Docker's; none of a base's either
            "Labels": dict(config.labels),
        },
        "rootfs": {"type": "layers", "diff_ids": [x.stored.layer.diff_id for x in layers]},
        "history": [{"created": created, "created_by": f"wheelyard: {x.title}"} for x in layers],
    }
