"""Composes images from recorded layers; only layers that exist nowhere are made."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from wheelyard.context import Context
from wheelyard.contract.compiler import has_compiler
from wheelyard.contract.imageconfig import CELL_LABEL, image_config
from wheelyard.errors import BaseImageError, InspectError
from wheelyard.images.assemble.assemble import final_layer, make_layers, toolkit_links
from wheelyard.images.assemble.assembly import Assembly, PlannedLayer
from wheelyard.images.assemble.image import Image, ImageLayer, describe_image
from wheelyard.images.assemble.planned import planned_layers
from wheelyard.images.assemble.record import PATH, LayersRecord, contents_digest, read_record
from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.build.build import inspect_built
from wheelyard.images.build.report import image_json, merge_report
from wheelyard.images.build.results import Built
from wheelyard.images.inputs.network import begin
from wheelyard.model import Cell, Plan
from wheelyard.oci.blobs import StoredLayer
from wheelyard.oci.layout import Descriptor, Layout
from wheelyard.publish.published import PublicationSource, publications
from wheelyard.publish.recording import require_same, verify_layers
from wheelyard.registry.push import NotPushed
from wheelyard.system.failures import reported


@dataclass(frozen=True, slots=True)
class _LazyLayout:
    """An image layout whose layers are added when their bytes are needed."""

    layout: Layout
    store: LayerStore
    record: LayersRecord
    # A layer's digest -> its image, and what it is made of.
    makers: dict[str, tuple[Assembly, PlannedLayer]] = field(default_factory=dict)

    def supply(self, digests: Sequence[str]) -> None:
        """Put the layers there, making them if needed; InspectError if one does not match."""
        todo = [self.makers[digest] for digest in digests if digest in self.makers]
        for work in {id(work): work for work, _ in todo}.values():
            wanted = [planned for other, planned in todo if other is work]
            for planned in wanted:
                here = self.store.find(planned.key) is not None
                how = "sent from the cache" if here else "made here"
                work.context.reporter.info(f"the registry does not have {planned.title}: {how}")
            made = make_layers(work, wanted)
            for planned in wanted:
                require_same(planned, self.record, made[planned.key].layer)
                self.place(made[planned.key])

    def place(self, stored: StoredLayer) -> None:
        """Make a layer of the store available in the layout."""
        target = self.layout.blob(stored.layer.digest)
        if not target.is_symlink():
            target.symlink_to(stored.path)


@contextmanager
def known_images(
    cells: Sequence[Cell],
    plan: Plan,
    context: Context,
    *,
    only_recorded: bool,
    verify: bool,
    unverified: bool,
) -> Iterator[PublicationSource]:
    """Return the cells' images from the record; with `only_recorded`, only recorded ones.

    `verify` makes every recorded layer again and compares; InspectError names the first that
    differs. `unverified` also accepts images whose inspection is not recorded.
    """
    record = read_record(context.settings.project)
    if only_recorded:
        cells = [cell for cell in cells if cell.id in record.images]
    if verify:
        verify_layers(cells, plan, record, context)
    with tempfile.TemporaryDirectory(prefix="wheelyard-known-") as folder:
        store = LayerStore(context.settings.cache_dir)
        lazy = _LazyLayout(Layout(Path(folder)), store, record)
        failed = _put_together(cells, plan, lazy, context, unverified=unverified)
        broken = {one.id for one in failed}
        fine = [cell for cell in cells if cell.id not in broken]
        images = publications(lazy.layout, fine, unverified=unverified) if fine else ()
        yield PublicationSource(lazy.layout, images, tuple(failed), lazy.supply)


def _put_together(
    cells: Sequence[Cell], plan: Plan, lazy: _LazyLayout, context: Context, *, unverified: bool
) -> list[NotPushed]:
    """Describe every image in the layout, under its tags; return those that failed."""
    failed = []
    references: dict[str, Descriptor] = {}
    lazy.layout.create()
    for cell in cells:
        try:
            work = begin(cell, plan, context, lazy.store)
            image, seen = _described(work, lazy, unverified=unverified)
        except Exception as error:  # noqa: BLE001 - the next one is described whatever it was
            failed.append(NotPushed(cell.id, reported(error, cell.id, context.reporter)))
            continue
        references |= dict.fromkeys(cell.tags, image.manifest)
        entry = image_json(Built(cell, image, 0, {}, (), loaded=False)) | {"inspected": seen}
        merge_report(lazy.layout.folder, [entry], {x.digest for x in references.values()})
    lazy.layout.set_references(references)
    return failed


def _described(
    work: Assembly, lazy: _LazyLayout, *, unverified: bool
) -> tuple[Image, dict[str, str]]:
    """Return the image and its inspection; recorded layers are neither fetched nor made."""
    stage = work.stages[-1]
    if stage.cell.base.image is not None:
        raise BaseImageError(
            f"{stage.cell.id} is based on the registry's image {stage.cell.base.image}, which "
            f"{PATH} does not record; build it, and push it without --known"
        )
    planned = planned_layers(work.stages)
    config = image_config(stage.cell, stage.lock)
    layers = [_recorded(x, lazy) for x in planned if x.key in lazy.record.layers]
    known = lazy.record.images.get(stage.cell.id)
    whole = len(layers) == len(planned)
    if known is None or not whole or contents_digest(config, layers) != known.contents:
        known = None
        layers = _layers(work, planned, lazy, unverified=unverified)
    links = known.links if known else toolkit_links(work, layers)
    final = final_layer(work, dict(config.labels)[CELL_LABEL], dict(links))
    image = describe_image(lazy.layout, config, [*layers, final])
    lazy.place(final.stored)
    for one, layer in zip(planned, layers, strict=True):
        lazy.makers[layer.stored.layer.digest] = (work, one)
    if known:
        return image, dict(known.inspected)
    if any(not layer.stored.path.exists() for layer in layers):
        return image, {}
    findings = inspect_built(stage, image, lazy.layout, work.store)
    return image, {finding.name: finding.seen for finding in findings}


def _layers(
    work: Assembly, planned: Sequence[PlannedLayer], lazy: _LazyLayout, *, unverified: bool
) -> list[ImageLayer]:
    """Return the layers of an image that the record lacks, or records differently."""
    stage, record = work.stages[-1], lazy.record.layers
    unknown = [x for x in planned if x.key not in record]
    here = all(work.store.find(x.key) for x in planned if x.key in record)
    if not here and not unverified:
        what = unknown[0].title if unknown else "its verification"
        raise InspectError(
            f"{stage.cell.id}: {what} is not in {PATH}, and its other layers are not in the cache "
            f"to inspect it; run `wheelyard build {stage.cell.id}` and `wheelyard layers record "
            f"{stage.cell.id}`, or publish it as it is with --unverified"
        )
    for one in unknown:
        if not work.store.find(one.key):
            work.context.reporter.info(f"{PATH} does not record {one.title}: made here")
    # What makes wheels a toolkit is computed from what they hold.
    wanted = planned if here or has_compiler(stage.lock.wheels) else unknown
    made = make_layers(work, wanted)
    for one in wanted:
        require_same(one, lazy.record, made[one.key].layer)
    return [
        ImageLayer(made[x.key], x.title, x.from_wheels) if x.key in made else _recorded(x, lazy)
        for x in planned
    ]


def _recorded(planned: PlannedLayer, lazy: _LazyLayout) -> ImageLayer:
    layer = lazy.record.layers[planned.key]
    stored = StoredLayer(layer, lazy.store.blob(layer.digest))
    return ImageLayer(stored, planned.title, planned.from_wheels)
