"""Separate base images, which `FROM` in a rendered Dockerfile names.

A base is the system of the lowest flavour with an empty environment, pip and selfcheck. What
further flavours add to the system is installed by their Dockerfiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.contract.imageconfig import base_config, base_image
from wheelyard.images.assemble.assemble import base_layers
from wheelyard.images.assemble.image import Image, write_image
from wheelyard.images.assemble.record import read_record
from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.build.report import LOCK_NAME
from wheelyard.images.inputs.network import begin
from wheelyard.oci.layout import Layout
from wheelyard.system.failures import reported
from wheelyard.system.filelock import locked

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.errors import WheelyardError
    from wheelyard.images.build.loading import Loader
    from wheelyard.model import Cell, Plan


def build_bases(
    cells: Sequence[Cell],
    plan: Plan,
    output: Path,
    context: Context,
    *,
    load: Loader | None,
    missing: dict[str, WheelyardError] | None = None,
) -> list[tuple[str, Image]]:
    """Build the base of every cell once; return pairs of image name and image.

    Bases that the matrix takes from a registry are left out. With `missing`, one failure does not
    stop the others, and its error is put there under its name.
    """
    layout = Layout(output)
    layout.create()
    record = read_record(context.settings.project).layers
    store = LayerStore(context.settings.cache_dir)
    built = []
    with locked(output / LOCK_NAME):
        layout.repair({})
        for cell in _lowest_cells(cells, plan):
            name = base_image(cell)
            try:
                work = begin(cell, plan, context, store, record)
                config = base_config(cell, work.stages[0].lock.newest)
                image = write_image(layout, config, base_layers(work))
                layout.set_references({**layout.references(), name: image.manifest})
                if load:
                    load.image(image, [name], layout)
            except Exception as error:
                if missing is None:
                    raise
                missing[name] = reported(error, name, context.reporter)
            else:
                built.append((name, image))
        layout.prune()
    return built


def _lowest_cells(cells: Iterable[Cell], plan: Plan) -> tuple[Cell, ...]:
    """Return one cell of the lowest flavour for each base of `cells` that is made here.

    It is the first one of the plan that fits, whatever was selected: pip comes from its lock.
    """
    names = {base_image(cell) for cell in cells if cell.base.image is None}
    first: dict[str, Cell] = {}
    for cell in plan.cells:
        if cell.parent is None and base_image(cell) in names:
            first.setdefault(base_image(cell), cell)
    return tuple(first.values())
