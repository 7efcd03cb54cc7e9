"""The images of a layout with their layers packed in another way: other manifests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.build.report import merge_report, read_report
from wheelyard.layers.layer import Layer
from wheelyard.oci.blobs import StoredLayer
from wheelyard.oci.layout import MANIFEST_TYPE, Descriptor, Layout, canonical
from wheelyard.publish.published import PublicationSource
from wheelyard.publish.recompress import Packing, recompress
from wheelyard.registry.push import NotPushed, Publication
from wheelyard.system.failures import reported

if TYPE_CHECKING:
    from wheelyard.context import Context


@contextmanager
def repacked_images(
    source: PublicationSource, packing: Packing, context: Context
) -> Iterator[PublicationSource]:
    """Return `source` with layers in that packing; images that cannot be packed are failures."""
    store = LayerStore(context.settings.cache_dir)
    images, failed = [], list(source.failed)
    with tempfile.TemporaryDirectory(prefix="wheelyard-packed-") as folder:
        layout = Layout(Path(folder))
        layout.create()
        for image in source.images:
            try:
                images.append(_repacked(image, source, packing, layout, store, context))
            except Exception as error:  # noqa: BLE001 - the next one is packed whatever it was
                failed.append(NotPushed(image.id, reported(error, image.id, context.reporter)))
        yield PublicationSource(layout, tuple(images), tuple(failed), origin=source.layout)


def _repacked(
    image: Publication,
    source: PublicationSource,
    packing: Packing,
    layout: Layout,
    store: LayerStore,
    context: Context,
) -> Publication:
    manifest = source.layout.read_json(image.manifest)
    layers = _layers(source.layout, manifest)
    absent = [
        x.layer.digest
        for x in layers
        if not x.path.exists() and store.find(packing.key(x.layer.digest)) is None
    ]
    if source.supply and absent:
        source.supply(absent)
    packed = recompress(packing, layers, store, context)
    for stored in packed.values():
        target = layout.blob(stored.layer.digest)
        if not target.is_symlink():
            target.symlink_to(stored.path.absolute())
    ordered = [packed[x.layer.digest] for x in layers]
    config = _config(source.layout, manifest["config"]["digest"], ordered)
    descriptors = [_descriptor(packing, stored) for stored in ordered]
    put = layout.put(config, manifest["config"]["mediaType"])
    content = {**manifest, "config": put.as_json(), "layers": descriptors}
    made = layout.put(canonical(content), MANIFEST_TYPE)
    _report(image, source.layout, layout, made, packed)
    return replace(image, manifest=made.digest)


def _config(layout: Layout, digest: str, layers: Sequence[StoredLayer]) -> bytes:
    """Return the image's config: the same bytes if the tars are the same."""
    config = layout.read_json(digest)
    diff_ids = [stored.layer.diff_id for stored in layers]
    if config["rootfs"]["diff_ids"] == diff_ids:
        return layout.blob(digest).read_bytes()
    return canonical({**config, "rootfs": {**config["rootfs"], "diff_ids": diff_ids}})


def _descriptor(packing: Packing, stored: StoredLayer) -> dict[str, Any]:
    layer = stored.layer
    annotations = dict(packing.annotate(stored))
    described = Descriptor(packing.media_type, layer.digest, layer.size).as_json()
    return {**described, "annotations": annotations} if annotations else described


def _layers(layout: Layout, manifest: Mapping[str, Any]) -> list[StoredLayer]:
    diff_ids = layout.read_json(manifest["config"]["digest"])["rootfs"]["diff_ids"]
    return [
        StoredLayer(Layer(layer["digest"], diff_id, layer["size"], 0), layout.blob(layer["digest"]))
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
        layers = [x | asdict(packed[x["digest"]].layer) for x in entry["layers"]]
        saved = sum(x["size"] for x in entry["layers"]) - sum(x["size"] for x in layers)
        size = entry["compressed_bytes"] - saved
        fresh = {**entry, "digest": made.digest, "layers": layers, "compressed_bytes": size}
        kept = {x["digest"] for x in read_report(layout.folder)}
        merge_report(layout.folder, [fresh], kept)
