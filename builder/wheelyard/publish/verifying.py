"""Compares the record of layers with the wheels: every layer is made again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import InspectError
from wheelyard.images.assemble.assemble import make_layers
from wheelyard.images.assemble.assembly import PlannedLayer
from wheelyard.images.assemble.planned import planned_layers
from wheelyard.images.assemble.record import PATH, LayersRecord
from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.assemble.system import share_systems
from wheelyard.images.inputs.network import begin
from wheelyard.publish.reproduce import own_cache

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.layers.layer import Layer
    from wheelyard.model import Cell, Plan


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
