"""The images of a layout with zstd layers: another manifest with the same config."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.build.report import merge_report, read_report
from wheelyard.oci.layout import MANIFEST_TYPE, ZSTD_TYPE, Descriptor, Layout, canonical
from wheelyard.publish.published import PublicationSource
from wheelyard.publish.recompress import Packed, is_packed, recompress
from wheelyard.registry.push import NotPushed
from wheelyard.system.failures import reported

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.oci.blobs import StoredLayer
    from wheelyard.registry.push import Publication


@contextmanager
def zstd_images(source: PublicationSource, context: Context) -> Iterator[PublicationSource]:
    """Return `source` with zstd layers; images that cannot be recompressed are failures."""
    store = LayerStore(context.settings.cache_dir)
    images, failed = [], list(source.failed)
    with tempfile.TemporaryDirectory(prefix="wheelyard-zstd-") as folder:
        layout = Layout(Path(folder))
        layout.create()
        for image in source.images:
            try:
                images.append(_repacked(image, source, layout, store, context))
            except Exception as error:  # noqa: BLE001 - the next one is packed whatever it was
                failed.append(NotPushed(image.id, reported(error, image.id, context.reporter)))
        yield PublicationSource(layout, tuple(images), tuple(failed), origin=source.layout)


def _repacked(
    image: Publication,
    source: PublicationSource,
    layout: Layout,
    store: LayerStore,
    context: Context,
) -> Publication:
    manifest = source.layout.read_json(image.manifest)
    layers = _layers(source.layout, manifest)
    absent = [x.digest for x in layers if not x.path.exists() and not is_packed(x.digest, store)]
    if source.supply and absent:
        source.supply(absent)
    packed = recompress(layers, store, context)
    for stored in packed.values():
        target = layout.blob(stored.layer.digest)
        if not target.is_symlink():
            target.symlink_to(stored.path.absolute())
    config = source.layout.blob(manifest["config"]["digest"]).read_text()
    layout.put(config.encode(), manifest["config"]["mediaType"])
    descriptors = [
        Descriptor(ZSTD_TYPE, packed[x.digest].layer.digest, packed[x.digest].layer.size)
        for x in layers
    ]
    content = {**manifest, "layers": [descriptor.as_json() for descriptor in descriptors]}
    made = layout.put(canonical(content), MANIFEST_TYPE)
    _report(image, source.layout, layout, made, packed)
    return replace(image, manifest=made.digest)


def _layers(layout: Layout, manifest: Mapping[str, Any]) -> list[Packed]:
    diff_ids = layout.read_json(manifest["config"]["digest"])["rootfs"]["diff_ids"]
    return [
        Packed(layer["digest"], diff_id, layer["size"], layout.blob(layer["digest"]))
        for layer, diff_id in zip(manifest["layers"], diff_ids, strict=True)
    ]


def _report(
    image: Publication,
    source: Layout,
    layout: Layout,
    made: Descriptor,
    packed: Mapping[str, StoredLayer],
) -> None:
    """Copy the old image's report to the new one: the same files, read back by the build."""
    for entry in read_report(source.folder):
        if (entry["id"], entry["digest"]) != (image.id, image.manifest):
            continue
        layers = [_as_zstd(layer, packed[layer["digest"]]) for layer in entry["layers"]]
        saved = sum(x["size"] for x in entry["layers"]) - sum(x["size"] for x in layers)
        size = entry["compressed_bytes"] - saved
        fresh = {**entry, "digest": made.digest, "layers": layers, "compressed_bytes": size}
        kept = {x["digest"] for x in read_report(layout.folder)}
        merge_report(layout.folder, [fresh], kept)


def _as_zstd(layer: Mapping[str, Any], stored: StoredLayer) -> dict[str, Any]:
    return {**layer, "digest": stored.layer.digest, "size": stored.layer.size}
