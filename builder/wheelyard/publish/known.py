"""Images put together from what is known of their layers; only what nobody has is made."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.contract.compiler import has_compiler
from wheelyard.contract.imageconfig import CELL_LABEL, image_config
from wheelyard.errors import BaseImageError, InspectError
from wheelyard.images.assemble.assemble import final_layer, make_layers, toolkit_links
from wheelyard.images.assemble.assembly import Assembly
from wheelyard.images.assemble.image import Image, ImageLayer, describe_image
from wheelyard.images.assemble.planned import planned_layers
from wheelyard.images.assemble.record import PATH, Record, contents_digest, read_record
from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.build.build import inspect_built
from wheelyard.images.build.report import image_json, merge_report
from wheelyard.images.build.results import Built
from wheelyard.images.inputs.network import Network
from wheelyard.lock.stages import load_stages
from wheelyard.oci.blobs import StoredLayer
from wheelyard.oci.layout import Descriptor, Layout
from wheelyard.publish.published import Source, publications
from wheelyard.publish.verifying import require_same, verify_layers
from wheelyard.registry.push import NotPushed
from wheelyard.system.failures import reported

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.images.assemble.assembly import PlannedLayer
    from wheelyard.model import Cell, Plan


@dataclass(frozen=True, slots=True)
class _Sparse:
    """An image layout whose layers are put there when somebody needs their bytes."""

    layout: Layout
    store: LayerStore
    record: Record
    # A layer's digest -> the image that it is of, and what it is made of.
    makers: dict[str, tuple[Assembly, PlannedLayer]] = field(default_factory=dict)

    def supply(self, digests: Sequence[str]) -> None:
        """Put the layers there, made if need be; InspectError where one becomes another one."""
        todo = [self.makers[digest] for digest in digests if digest in self.makers]
        for work in {id(work): work for work, _ in todo}.values():
            wanted = [planned for other, planned in todo if other is work]
            for planned in wanted:
                here = self.store.find(planned.key) is not None
                how = "sent from the cache" if here else "made here"
                work.context.reporter.info(f"the registry has no {planned.title}: {how}")
            made = make_layers(work, wanted)
            for planned in wanted:
                require_same(planned, self.record, made[planned.key].layer)
                self.place(made[planned.key])

    def place(self, stored: StoredLayer) -> None:
        """Let a layer of the store be seen in the layout."""
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
) -> Iterator[Source]:
    """The cells' images as the record knows them; with `only_recorded`, those that it knows.

    `verify` makes every recorded layer again and compares; InspectError names the first that is
    another one. `unverified` takes images, too, whose inspection is not recorded.
    """
    record = read_record(context.settings.project)
    if only_recorded:
        cells = [cell for cell in cells if cell.id in record.images]
    if verify:
        verify_layers(cells, plan, record, context)
    with tempfile.TemporaryDirectory(prefix="wheelyard-known-") as folder:
        store = LayerStore(context.settings.cache_dir)
        sparse = _Sparse(Layout(Path(folder)), store, record)
        failed = _put_together(cells, plan, sparse, context, unverified=unverified)
        broken = {one.id for one in failed}
        fine = [cell for cell in cells if cell.id not in broken]
        images = publications(sparse.layout, fine, unverified=unverified) if fine else ()
        yield Source(sparse.layout, images, tuple(failed), sparse.supply)


def _put_together(
    cells: Sequence[Cell], plan: Plan, sparse: _Sparse, context: Context, *, unverified: bool
) -> list[NotPushed]:
    """Describe every image in the layout, under its tags; those that could not be described."""
    failed = []
    references: dict[str, Descriptor] = {}
    sparse.layout.create()
    for cell in cells:
        try:
            stages = load_stages(cell, plan, context.settings.project)
            work = Assembly(stages, context, sparse.store, Network())
            image, seen = _described(work, sparse, unverified=unverified)
        except Exception as error:  # noqa: BLE001 - the next one is described whatever it was
            failed.append(NotPushed(cell.id, reported(error, cell.id, context.reporter)))
            continue
        references |= dict.fromkeys(cell.tags, image.manifest)
        entry = image_json(Built(cell, image, 0, {}, (), loaded=False)) | {"inspected": seen}
        merge_report(sparse.layout.folder, [entry], {x.digest for x in references.values()})
    sparse.layout.set_references(references)
    return failed


def _described(
    work: Assembly, sparse: _Sparse, *, unverified: bool
) -> tuple[Image, dict[str, str]]:
    """The image, and what its inspection saw; what is known is neither fetched nor made."""
    stage = work.stages[-1]
    if stage.cell.base.image is not None:
        raise BaseImageError(
            f"{stage.cell.id} lies on the registry's image {stage.cell.base.image}, which "
            f"{PATH} knows nothing of; build it, and push it without --known"
        )
    planned = planned_layers(work.stages)
    config = image_config(stage.cell, stage.lock)
    layers = [_recorded(x, sparse) for x in planned if x.key in sparse.record.layers]
    known = sparse.record.images.get(stage.cell.id)
    whole = len(layers) == len(planned)
    if known is None or not whole or contents_digest(config, layers) != known.contents:
        known = None
        layers = _layers(work, planned, sparse, unverified=unverified)
    links = known.links if known else toolkit_links(work, layers)
    final = final_layer(work, dict(config.labels)[CELL_LABEL], dict(links))
    image = describe_image(sparse.layout, config, [*layers, final])
    sparse.place(final.stored)
    for one, layer in zip(planned, layers, strict=True):
        sparse.makers[layer.stored.layer.digest] = (work, one)
    if known:
        return image, dict(known.inspected)
    if any(not layer.stored.path.exists() for layer in layers):
        return image, {}
    findings = inspect_built(stage, image, sparse.layout, work.store)
    return image, {finding.name: finding.seen for finding in findings}


def _layers(
    work: Assembly, planned: Sequence[PlannedLayer], sparse: _Sparse, *, unverified: bool
) -> list[ImageLayer]:
    """The layers of an image that the record does not know, or knows as another one."""
    stage, record = work.stages[-1], sparse.record.layers
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
            work.context.reporter.info(f"{PATH} has no {one.title}: made here")
    # What makes wheels a toolkit is computed from what they hold.
    wanted = planned if here or has_compiler(stage.lock.wheels) else unknown
    made = make_layers(work, wanted)
    for one in wanted:
        require_same(one, sparse.record, made[one.key].layer)
    return [
        ImageLayer(made[x.key], x.title, x.from_wheels) if x.key in made else _recorded(x, sparse)
        for x in planned
    ]


def _recorded(planned: PlannedLayer, sparse: _Sparse) -> ImageLayer:
    layer = sparse.record.layers[planned.key]
    stored = StoredLayer(layer, sparse.store.blob(layer.digest))
    return ImageLayer(stored, planned.title, planned.from_wheels)
