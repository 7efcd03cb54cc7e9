"""Base images on their own: what `FROM` in a rendered Dockerfile names.

An image that `build` assembles has the same layers at its bottom, pip's aside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.assemble.assemble import Assembly, base_layers
from builder.assemble.image import Image, write_image
from builder.assemble.layout import Layout
from builder.assemble.store import LayerStore
from builder.filelock import locked
from builder.imageconfig import base_config, base_image
from builder.lock.inputs import base_cells
from builder.report import LOCK_NAME
from builder.stages import load_stages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.context import Context
    from builder.loading import Loader
    from builder.model import Cell, Plan


def build_bases(
    cells: Sequence[Cell], plan: Plan, output: Path, context: Context, *, load: Loader | None
) -> list[tuple[str, Image]]:
    """Build the base of every cell once; pairs of image name and image."""
    layout = Layout(output)
    layout.create()
    store = LayerStore(context.settings.cache_dir)
    built = []
    with locked(output / LOCK_NAME):
        for cell in base_cells(cells).values():
            stages = load_stages(cell, plan, context.settings.project)
            layers = base_layers(Assembly(stages, context, store))
            image = write_image(layout, base_config(cell), layers)
            name = base_image(cell)
            layout.set_references({**layout.references(), name: image.manifest})
            if load:
                load(image, [name], layout)
            built.append((name, image))
        layout.prune()
    return built
