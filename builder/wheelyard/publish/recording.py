"""Records what layers are, from the cache and from builds; compares layers made again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.contract.imageconfig import image_config
from wheelyard.errors import BaseImageError, InspectError, LockError
from wheelyard.images.assemble.assemble import make_layers, toolkit_links
from wheelyard.images.assemble.assembly import Assembly, PlannedLayer
from wheelyard.images.assemble.image import ImageLayer
from wheelyard.images.assemble.planned import planned_layers
from wheelyard.images.assemble.record import PATH, KnownImage, LayersRecord, contents_digest
from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.assemble.system import share_systems
from wheelyard.images.build.report import read_report
from wheelyard.images.inputs.network import begin
from wheelyard.lock.stages import load_stages
from wheelyard.publish.reproduce import own_cache

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.images.assemble.store import LayerStore
    from wheelyard.layers.layer import Layer
    from wheelyard.model import Cell, Plan


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the record now holds about an image."""

    id: str
    layers: int
    missing: tuple[str, ...]  # titles of layers that were not made here
    inspected: bool


def record_layers(
    cells: Sequence[Cell],
    plan: Plan,
    old: LayersRecord,
    output: Path,
    store: LayerStore,
    context: Context,
) -> tuple[LayersRecord, list[Recorded]]:
    """Return `old` with the layers and inspections of `cells`, without obsolete entries.

    `output` is the image layout whose builds inspected them.
    """
    layers, titles, images = dict(old.layers), dict(old.titles), dict(old.images)
    report = {image["id"]: image for image in read_report(output)}
    results = []
    for cell in cells:
        work = begin(cell, plan, context, store)
        planned = planned_layers(work.stages)
        stored_layers = {x.key: stored for x in planned if (stored := store.find(x.key))}
        layers |= {key: stored.layer for key, stored in stored_layers.items()}
        titles |= {x.key: x.title for x in planned if x.key in stored_layers}
        missing = tuple(x.title for x in planned if x.key not in stored_layers)
        made = [
            ImageLayer(stored_layers[x.key], x.title, x.from_wheels)
            for x in planned
            if x.key in stored_layers
        ]
        known = None if missing else _inspected(work, made, report.get(cell.id))
        if known:
            images[cell.id] = known
        results.append(Recorded(cell.id, len(made), missing, known is not None))
    return _asked_for(LayersRecord(layers, titles, images), plan, context.settings.project), results


def record_bases(
    cells: Sequence[Cell], plan: Plan, old: LayersRecord, store: LayerStore, context: Context
) -> tuple[LayersRecord, list[Recorded]]:
    """Return `old` with the Debian layers of `cells`, made here if the store lacks them.

    Bases that are a registry's images have none.
    """
    layers, titles, results = dict(old.layers), dict(old.titles), {}
    for cell in cells:
        if cell.base.image is not None or cell.base_lock in results:
            continue
        work = begin(cell, plan, context, store)
        planned = [x for x in planned_layers(work.stages) if isinstance(x.source, int)]
        made = make_layers(work, planned)
        layers |= {x.key: made[x.key].layer for x in planned}
        titles |= {x.key: x.title for x in planned}
        name = f"{cell.base.name}-{cell.flavour.name}"
        results[cell.base_lock] = Recorded(name, len(planned), (), False)
    record = _asked_for(LayersRecord(layers, titles, old.images), plan, context.settings.project)
    return record, list(results.values())


def _inspected(
    work: Assembly, layers: Sequence[ImageLayer], built: Mapping[str, Any] | None
) -> KnownImage | None:
    """Return the inspection of the build that made these very layers; None if there is none."""
    if built is None or not built.get("inspected"):
        return None
    if [x["digest"] for x in built["layers"][:-1]] != [x.stored.layer.digest for x in layers]:
        return None
    config = image_config(work.stages[-1].cell, work.stages[-1].lock)
    return KnownImage(
        contents_digest(config, layers), built["inspected"], toolkit_links(work, layers)
    )


def _asked_for(record: LayersRecord, plan: Plan, project: Path) -> LayersRecord:
    keys = set(_keys(plan, project))
    ids = {cell.id for cell in plan.cells}
    return LayersRecord(
        {key: layer for key, layer in record.layers.items() if key in keys},
        {key: title for key, title in record.titles.items() if key in keys},
        {name: image for name, image in record.images.items() if name in ids},
    )


def _keys(plan: Plan, project: Path) -> Iterable[str]:
    for cell in plan.cells:
        try:
            stages = load_stages(cell, plan, project)
        except (LockError, BaseImageError):  # another lock than the matrix asks for, or base
            continue
        yield from (planned.key for planned in planned_layers(stages))


def verify_layers(cells: Sequence[Cell], plan: Plan, record: LayersRecord, context: Context) -> int:
    """Make every recorded layer of `cells` again; return their number.

    The layers of Debian packages are taken from the cache if it has them. Raises InspectError for
    the first layer that does not match the record, and as `build` does.
    """
    seen: set[str] = set()
    ours = LayerStore(context.settings.cache_dir)
    with _folder(ours) as folder, own_cache(context, folder / "cache") as own:
        store = LayerStore(own.settings.cache_dir)
        for cell in cells:
            work = begin(cell, plan, own, store)
            recorded = [x for x in planned_layers(work.stages) if x.key in record.layers]
            share_systems(work.stages, ours, store)
            made = make_layers(work, recorded)
            for one in recorded:
                require_same(one, record, made[one.key].layer)
            seen |= made.keys()
    return len(seen)


@contextmanager
def _folder(store: LayerStore) -> Iterator[Path]:
    """Make a folder in the store's scratch: if we are killed, the next build removes it."""
    folder = store.scratch()
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_same(planned: PlannedLayer, record: LayersRecord, made: Layer) -> None:
    """Raise InspectError unless a layer matches its record, if there is one."""
    recorded = record.layers.get(planned.key, made)
    if made != recorded:
        raise InspectError(
            f"{planned.title}: {PATH} says {recorded.digest} (diff_id {recorded.diff_id}), and "
            f"made here it is {made.digest} (diff_id {made.diff_id}); find the cause before you "
            "update the record with `wheelyard layers record`"
        )
