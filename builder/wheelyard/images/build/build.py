"""Builds images: every selected cell, one after the other. One failure does not stop the others.

An image gets its references only after it was read back and found to match its cell.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from wheelyard.console.amounts import amount
from wheelyard.context import Context
from wheelyard.contract.imageconfig import CELL_LABEL, image_config
from wheelyard.fetching.wanted import place
from wheelyard.images.assemble.assemble import assemble_layers
from wheelyard.images.assemble.assembly import Assembly
from wheelyard.images.assemble.image import Image, write_image
from wheelyard.images.assemble.record import read_record
from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.build.loading import Loader, NullReceiver, Receiver
from wheelyard.images.build.report import LOCK_NAME, read_report, write_report
from wheelyard.images.build.results import Built, Failed
from wheelyard.images.inputs.network import begin
from wheelyard.images.inspect.inspect import Finding, inspect_image, require
from wheelyard.images.inspect.tree import LayerContents, Tree
from wheelyard.lock.stages import Stage, load_stages
from wheelyard.model import Cell, LockedWheel, Plan
from wheelyard.oci.layout import Layout
from wheelyard.system.failures import reported
from wheelyard.system.filelock import locked, once


def build_images(
    cells: Sequence[Cell],
    plan: Plan,
    output: Path,
    context: Context,
    *,
    load: Loader | None = None,
    fail_fast: bool = False,
    prune: bool = False,
    recompute: bool = False,
) -> list[Built | Failed]:
    """Build `cells` into the OCI image layout `output`; return one result each, in their order.

    `load` passes a finished image to an engine. With `fail_fast` the first failure ends the batch;
    with `prune` the wheels of a finished image are removed unless a later one needs them; with
    `recompute` every layer of wheels is made again, whatever cache and record contain. Waits while
    another build holds `output`.
    """
    record = {} if recompute else read_record(context.settings.project).layers
    remade: set[str] | None = set() if recompute else None
    layout = Layout(output)
    layout.create()
    store = LayerStore(context.settings.cache_dir)
    results: list[Built | Failed] = []
    waiting = once(lambda: context.reporter.info(f"waiting: another build is writing to {output}"))
    with locked(output / LOCK_NAME, waiting), _overview(cells, context) as overview:
        _repair(layout, context)
        held = _held_blobs(output, cells)
        for number, cell in enumerate(cells, 1):
            overview(number, cell)
            try:
                work = begin(cell, plan, context, store, record, remade)
                built = _build_one(work, layout, held, load)
                _publish(layout, built)
                results.append(built)
                if prune:
                    _prune(cell, cells[number:], plan, context)
            except Exception as error:  # noqa: BLE001 - the next image is built whatever it was
                failed = Failed(cell, reported(error, cell.id, context.reporter))
                results = [*(x for x in results if x.cell is not cell), failed]
                if fail_fast:
                    break
        layout.prune()
    return results


@contextmanager
def _overview(cells: Sequence[Cell], context: Context) -> Iterator[Callable[[int, Cell], None]]:
    """Say which image of several is begun, and show how many are finished."""
    if len(cells) == 1:
        yield lambda _number, _cell: None
        return
    with context.reporter.task("images", len(cells), "items") as task:

        def begin(number: int, cell: Cell) -> None:
            context.reporter.info(f"image {number} of {len(cells)}: {cell.id}")
            if number > 1:
                task.advance(1)

        yield begin
        task.advance(1)


def _repair(layout: Layout, context: Context) -> None:
    known = {x: image["digest"] for image in read_report(layout.folder) for x in image["tags"]}
    for name in layout.repair(known):
        context.reporter.warn(
            f"{layout.folder}: {name} is damaged and was removed from its index; "
            "build it again: wheelyard build SELECTOR"
        )


def _prune(cell: Cell, later: Sequence[Cell], plan: Plan, context: Context) -> None:
    project, files = context.settings.project, context.settings.cache_dir / "files"
    needed = locked_wheels(later, plan, project)
    freed = prune_wheels(locked_wheels([cell], plan, project) - needed, files)
    context.reporter.info(f"{cell.id}: removed {amount(freed, 'bytes')} of wheels")


def _build_one(work: Assembly, layout: Layout, held: set[str], load: Loader | None) -> Built:
    stage = work.stages[-1]
    config = image_config(stage.cell, stage.lock)
    with _receiver(work, stage.cell, load) as receiver:
        layers = assemble_layers(work, dict(config.labels)[CELL_LABEL], receiver.offer)
        with work.timed("image"):
            image = write_image(layout, config, layers)
            for layer in layers:  # recorded with the additional link: any later write is damage
                work.store.find(layer.stored.key)
        with work.timed("inspect"):
            findings = inspect_built(stage, image, layout, work.store)
        if load:
            with work.timed("load"):
                receiver.finish()
                load.image(image, stage.cell.tags, layout)
    new = {x.stored.layer.digest: x.stored.layer.size for x in image.layers}
    new_bytes = sum(size for digest, size in new.items() if digest not in held)
    held.update(new)
    loaded = load is not None
    return Built(stage.cell, image, new_bytes, work.seconds, findings, loaded, work.sources)


def _receiver(work: Assembly, cell: Cell, load: Loader | None) -> AbstractContextManager[Receiver]:
    if load is None:
        return nullcontext(NullReceiver())
    return load.ahead(work.store.blobs, cell.tags[0])


def inspect_built(
    stage: Stage, image: Image, layout: Layout, store: LayerStore
) -> tuple[Finding, ...]:
    """Read an image back; raise InspectError unless it matches its cell."""
    config = layout.read_json(image.config.digest)
    findings = inspect_image(stage.cell, stage.lock, config, read_tree(image, store))
    require(stage.cell.id, findings)
    return findings


def read_tree(image: Image, store: LayerStore) -> Tree:
    """Read the image's files, by its layers' tables of contents."""
    return Tree(
        LayerContents(
            layer.stored.path,
            store.entries(layer.stored.layer),
            layer.title,
            layer.from_wheels,
        )
        for layer in image.layers
    )


def _publish(layout: Layout, built: Built) -> None:
    """Point the references to the image; a tag belongs to one image only."""
    references = {
        name: descriptor
        for name, descriptor in layout.references().items()
        if name not in built.cell.tags
    }
    references |= dict.fromkeys(built.cell.tags, built.image.manifest)
    layout.set_references(references)
    write_report(layout.folder, [built], {descriptor.digest for descriptor in references.values()})


def _held_blobs(output: Path, cells: Iterable[Cell]) -> set[str]:
    """Return the layers of images in `output` that are not about to be built."""
    building = {cell.id for cell in cells}
    return {
        layer["digest"]
        for image in read_report(output)
        if image["id"] not in building
        for layer in image["layers"]
    }


def locked_wheels(cells: Iterable[Cell], plan: Plan, project: Path) -> set[LockedWheel]:
    """Return all wheels that any of `cells` installs."""
    return {
        wheel
        for cell in cells
        for stage in load_stages(cell, plan, project)
        for wheel in stage.lock.wheels
    }


def prune_wheels(wheels: Iterable[LockedWheel], files: Path) -> int:
    """Remove wheels from the folder of fetched files; return the number of freed bytes.

    A later build that lacks a layer fetches its wheel again. Not for a cache that another build is
    reading from.
    """
    freed = 0
    for wheel in wheels:
        path = place(files, wheel.sha256, wheel.filename)
        if path.is_file():
            freed += path.stat().st_size
            shutil.rmtree(path.parent)
    return freed
