"""From locks to layers: fetch what is unknown, make the layers, record them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.contract.compiler import PROFILE, PROFILE_TEXT, compiler_links, has_compiler
from wheelyard.contract.constraints import constraint_files
from wheelyard.contract.paths import LOCK, site_packages
from wheelyard.contract.recipe import BytecodeLayer
from wheelyard.errors import WheelError, WheelyardError
from wheelyard.images.assemble.assembly import CACHE, Assembly, PlannedLayer
from wheelyard.images.assemble.base import emulator
from wheelyard.images.assemble.final_layer import (
    base_files,
    final_layer_files,
    final_layer_key,
    write_final_layer,
)
from wheelyard.images.assemble.image import ImageLayer
from wheelyard.images.assemble.interpreter import interpreter_identity, unpack_interpreter
from wheelyard.images.assemble.planned import planned_base, planned_layers
from wheelyard.images.assemble.pool import run_jobs
from wheelyard.images.assemble.record import PATH
from wheelyard.images.assemble.streamed import GrowingImage, StreamedInputs, ignore
from wheelyard.images.assemble.system import Roots, pinned_layers, system_job, system_key
from wheelyard.images.assemble.worker import Job, SystemJob, WheelJob
from wheelyard.layers.layer import Layer
from wheelyard.layers.wheels import WheelInput
from wheelyard.lock.lockfile import render_requirements_lock
from wheelyard.system.storage import is_file_of, remove, storage_error

if TYPE_CHECKING:
    from wheelyard.images.assemble.bytecode import Interpreter
    from wheelyard.model import LockedWheel
    from wheelyard.oci.blobs import StoredLayer

# Rough speed of the two kinds of work, to start the longest job first.
_BYTECODE_COST = 40  # a byte of a wheel's modules costs as much as this many of its other bytes


def assemble_layers(
    work: Assembly, cell_json: str, offer: Callable[[Layer], None] = ignore
) -> list[ImageLayer]:
    """Return every layer of the image, lowest first; make those that the store does not have.

    `offer` is called with each layer, lowest first, as soon as it and all below it are complete.
    Raises the WheelyardError of the first failure; finished layers stay in the store.
    """
    base = pinned_layers(work)
    planned = planned_layers(work.stages)
    for below in base:
        offer(below.stored.layer)
    made = make_layers(work, planned, GrowingImage([x.key for x in planned], offer))
    layers = [ImageLayer(made[x.key], x.title, x.from_wheels) for x in planned]
    return [*base, *layers, final_layer(work, cell_json, toolkit_links(work, layers))]


def base_layers(work: Assembly) -> list[ImageLayer]:
    """Return the layers of a base image: the lowest flavour's system, pip, and selfcheck on top."""
    planned = planned_base(work.stages)
    made = make_layers(work, planned)
    layers = [ImageLayer(made[x.key], x.title, x.from_wheels) for x in planned]
    return [*layers, _small_layer(work, base_files(), {}, "selfcheck")]


def toolkit_links(work: Assembly, layers: Sequence[ImageLayer]) -> dict[str, str]:
    """Return the links that make the compiler's wheels a toolkit, if the image has them."""
    if not has_compiler(work.stages[-1].lock.wheels):
        return {}
    stored = (layer.stored.layer for layer in layers if layer.from_wheels)
    paths = (entry.path for layer in stored for entry in work.store.entries(layer))
    return compiler_links(paths, site_packages(work.stages[-1].cell.python))


def make_layers(
    work: Assembly, planned: Sequence[PlannedLayer], growing: GrowingImage | None = None
) -> dict[str, StoredLayer]:
    """Return key -> layer for some of the image's layers; make those that the store does not have.

    `growing` is told of each layer when it is complete.
    """
    growing = growing or GrowingImage((), ignore)
    known = {x.key: stored for x in planned if (stored := work.find(x)) is not None}
    for x in planned:
        if x.key in known:
            growing.add(x.key, known[x.key].layer)
            if isinstance(x.source, int) and work.stages[0].cell.base.image is None:
                work.sources[x.title] = CACHE
    missing = [x for x in planned if x.key not in known]
    if not missing:
        return known
    layers = [x for x in missing if not isinstance(x.source, int)]
    with (
        work.inputs.wheels(work, {w.sha256: w for x in layers for w in _wheels(x)}) as streamed,
        Roots(work, _with_base(work, known)) as roots,
    ):
        known |= _supplied(missing, roots, growing)
        system_jobs = [
            system_job(work, x.source, roots)
            for x in missing
            if isinstance(x.source, int) and x.key not in known
        ]
        interpreter = _interpreter(work, roots) if any(map(_is_bytecode, layers)) else None
        with work.fetching(streamed):
            return known | _make(work, layers, streamed, interpreter, system_jobs, growing)


def _supplied(
    missing: Sequence[PlannedLayer], roots: Roots, growing: GrowingImage
) -> dict[str, StoredLayer]:
    """Get finished layers of Debian packages in place of packages that are unavailable."""
    supplied = {}
    for planned in missing:
        if isinstance(planned.source, int) and (stored := roots.layer(planned.source)):
            supplied[planned.key] = stored
            growing.add(planned.key, stored.layer)
    return supplied


def _with_base(work: Assembly, known: dict[str, StoredLayer]) -> dict[str, StoredLayer]:
    """Add the lowest system, with which the others are made, to `known` if the store has it."""
    key = system_key(work.stages, 0)
    if key in known or (stored := work.store.find(key)) is None:
        return known
    return {**known, key: stored}


def _wheels(planned: PlannedLayer) -> tuple[LockedWheel, ...]:
    return () if isinstance(planned.source, int) else planned.source.wheels


def _is_bytecode(planned: PlannedLayer) -> bool:
    return isinstance(planned.source, BytecodeLayer)


def _interpreter(work: Assembly, roots: Roots) -> Interpreter:
    stage = work.stages[0].compiling
    if stage is not work.stages[0]:
        native = replace(work, stages=(stage,))
        key = system_key(native.stages, 0)
        stored = work.store.find(key, prove=work.remade is not None)
        with Roots(native, {} if stored is None else {key: stored}) as others:
            return _interpreter(native, others)
    cache = work.context.settings.cache_dir / "interpreters"
    identity = interpreter_identity(stage.packages, stage.cell.base)
    foreign = stage.cell.base.image is not None
    try:
        return unpack_interpreter(
            roots.whole(0), identity, stage.cell.python, cache, foreign=foreign,
            architecture=stage.cell.architecture,
            emulator=emulator(stage.cell.architecture, work.context.reporter),
        )  # fmt: skip
    except OSError as error:
        raise storage_error(error, cache) from error


def _make(
    work: Assembly,
    layers: Sequence[PlannedLayer],
    streamed: StreamedInputs,
    interpreter: Interpreter | None,
    system_jobs: Sequence[SystemJob],
    growing: GrowingImage,
) -> dict[str, StoredLayer]:
    """Make `layers`; fetch a file that is damaged in the cache again, once."""
    make_job = partial(_job, work, interpreter=interpreter)
    made, failed = _run(work, layers, streamed, make_job, growing, system_jobs)
    streamed.require()
    if failed and (bad := _damaged(failed, streamed.files)):
        wheels = {w.sha256: w for x in layers for w in _wheels(x)}
        names = ", ".join(bad.values())
        work.context.reporter.warn(f"damaged in the cache, fetched again: {names}")
        again = [x for x in layers if x.key in failed]
        with work.inputs.wheels(work, wheels) as streamed_again:
            made_again, failed = _run(work, again, streamed_again, make_job, growing)
            streamed_again.require()
        made |= made_again
    for error in failed.values():
        raise error
    return made


def _run(
    work: Assembly,
    layers: Sequence[PlannedLayer],
    streamed: StreamedInputs,
    make_job: Callable[[PlannedLayer, StreamedInputs], WheelJob],
    growing: GrowingImage,
    system_jobs: Sequence[SystemJob] = (),
) -> tuple[dict[str, StoredLayer], dict[str, WheelyardError]]:
    """Make layers as their wheels arrive; return those that failed, with their errors."""
    made: dict[str, StoredLayer] = {}
    failed: dict[str, WheelyardError] = {}
    waiting = list(layers)

    def more() -> list[WheelJob] | None:
        is_over = streamed.is_over()  # asked first, so that the last file is not missed
        ready = [x for x in waiting if all(w.sha256 in streamed.files for w in _wheels(x))]
        waiting[:] = [x for x in waiting if x not in ready]
        return None if is_over and not ready else [make_job(x, streamed) for x in ready]

    total = sum(w.size for x in layers if not _is_bytecode(x) for w in _wheels(x))
    with work.context.reporter.task("layers", total, "bytes") as task:
        for job, result in run_jobs(system_jobs, work.context.settings.workers, task.advance, more):
            if isinstance(result, Layer):
                made[job.key] = work.store.add(job.key, job.scratch, result)
                if work.remade is not None:
                    work.remade.add(job.key)
                _compare(work, job, result)
                growing.add(job.key, result)
            else:
                failed[job.key] = result
    return made, failed


def _compare(work: Assembly, job: Job, made: Layer) -> None:
    recorded = work.record.get(job.key, made)
    if made != recorded:
        work.context.reporter.warn(
            f"{job.title} is {made.digest}, but {PATH} has {recorded.digest}; if the new one is "
            "right, record it with `wheelyard layers record`"
        )


def _damaged(failed: dict[str, WheelyardError], files: dict[str, Path]) -> dict[str, str]:
    """Remove files that no longer match their hash; return SHA-256 -> name."""
    if not any(isinstance(error, WheelError) for error in failed.values()):
        return {}
    bad = {sha256: path.name for sha256, path in files.items() if not is_file_of(path, sha256)}
    for sha256 in bad:
        remove(files[sha256])
    return bad


def _job(
    work: Assembly,
    layer: PlannedLayer,
    streamed: StreamedInputs,
    interpreter: Interpreter | None,
) -> WheelJob:
    wheels, is_bytecode = _wheels(layer), _is_bytecode(layer)
    size = sum(wheel.size for wheel in wheels)
    return WheelJob(
        key=layer.key,
        title=layer.title,
        wheels=tuple(
            WheelInput(
                streamed.files[w.sha256],
                w.name,
                w.version,
                w.sha256 if w.sha256 in streamed.unchecked else None,
            )
            for w in wheels
        ),
        python=work.stages[0].cell.python,
        scratch=work.store.scratch(),
        interpreter=interpreter if is_bytecode else None,
        weight=min(size * _BYTECODE_COST, 1 << 30) if is_bytecode else size,
        known=work.record.get(layer.key),
    )


def final_layer(work: Assembly, cell_json: str, links: dict[str, str]) -> ImageLayer:
    """Return the final layer: selfcheck, the cell, its lock, and what makes wheels a toolkit."""
    stage = work.stages[-1]
    texts = constraint_files(stage.cell, stage.lock.wheels)
    texts[LOCK] = render_requirements_lock(stage.lock)
    files = final_layer_files(cell_json, texts)
    if links:
        files[PROFILE] = (PROFILE_TEXT.encode(), 0o644)
    return _small_layer(work, files, links, "selfcheck and the cell")


def _small_layer(
    work: Assembly, files: dict[str, tuple[bytes, int]], links: dict[str, str], title: str
) -> ImageLayer:
    key, python = final_layer_key(files, links), work.stages[-1].cell.python
    stored = work.store.find(key, prove=work.remade is not None)
    if stored is None:
        scratch = work.store.scratch()
        stored = work.store.add(key, scratch, write_final_layer(files, links, scratch, python))
    return ImageLayer(stored, title, False)
