"""From locks to layers: fetch what is not known yet, make the layers, remember them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.assemble.assembly import Assembly
from builder.assemble.image import ImageLayer
from builder.assemble.install import site_packages
from builder.assemble.interpreter import interpreter_identity, unpack_interpreter
from builder.assemble.layer import Layer
from builder.assemble.pool import run_jobs
from builder.assemble.recipe import BytecodeLayer, WheelLayer, make_recipe
from builder.assemble.store import StoredLayer, file_digest
from builder.assemble.system import Roots, system_job, system_key, system_title
from builder.assemble.top import selfcheck_files, top_files, top_key, write_top
from builder.assemble.worker import SystemJob, WheelInput, WheelJob
from builder.errors import BaseImageError, WheelError, WheelyardError
from builder.fetching.fetch import cached, fetch_all
from builder.fetching.index import locate
from builder.lock.resolve import index_urls
from builder.planning.compiler import PROFILE, PROFILE_TEXT, compiler_links, has_compiler

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.assemble.bytecode import Interpreter
    from builder.assemble.worker import Job
    from builder.model import LockedWheel

# Rough speed of the two kinds of work, to start the longest job first.
_BYTECODE_COST = 40  # a byte of a wheel's modules costs as much as this many of its other bytes


def assemble_layers(work: Assembly, cell_json: str) -> list[ImageLayer]:
    """Every layer of the image, lowest first; made here if the store does not know it.

    Raises the WheelyardError of the first thing that fails; finished layers stay in the store.
    """
    base = work.stages[0].cell.base
    if base.image is not None:
        raise BaseImageError(
            f"the base {base.name} is the registry's image {base.image}, which is not assembled: "
            "build with --engine docker or --engine bake"
        )
    recipe = make_recipe(work.stages[-1].cell, [stage.lock.wheels for stage in work.stages])
    known = _known_or_made(work, [layer for stage in recipe.stages for layer in stage])
    layers: list[ImageLayer] = []
    for i, stage in enumerate(recipe.stages):
        layers.append(_system_layer(work, i, known))
        layers += [ImageLayer(known[_key(layer, work)], layer.title, True) for layer in stage]
    return [*layers, _top_layer(work, cell_json, _links(work, layers))]


def _links(work: Assembly, layers: Sequence[ImageLayer]) -> dict[str, str]:
    """What makes the compiler's wheels a toolkit, where the image has them."""
    if not has_compiler(work.stages[-1].lock.wheels):
        return {}
    digests = (layer.stored.layer.digest for layer in layers if layer.from_wheels)
    paths = (entry.path for digest in digests for entry in work.store.entries(digest))
    return compiler_links(paths, site_packages(work.stages[-1].cell.python))


def base_layers(work: Assembly) -> list[ImageLayer]:
    """The layers of a base image: the lowest flavour's system, pip and selfcheck above it."""
    stage = work.stages[0]
    pip = tuple(wheel for wheel in stage.lock.wheels if wheel.name == "pip")
    python = stage.cell.python
    layers: list[WheelLayer | BytecodeLayer] = [
        WheelLayer(pip, python),
        BytecodeLayer(pip, python),
    ]
    known = _known_or_made(work, layers)
    made = [ImageLayer(known[_key(layer, work)], layer.title, True) for layer in layers]
    top = _small_layer(work, selfcheck_files(), {}, "selfcheck")
    return [_system_layer(work, 0, known), *made, top]


def _system_layer(work: Assembly, index: int, known: dict[str, StoredLayer]) -> ImageLayer:
    return ImageLayer(known[system_key(work.stages, index)], system_title(work, index), False)


def _known_or_made(
    work: Assembly, layers: Sequence[WheelLayer | BytecodeLayer]
) -> dict[str, StoredLayer]:
    """Key -> layer, for `layers` and the system of every stage."""
    systems = [system_key(work.stages, i) for i in range(len(work.stages))]
    keys = [*systems, *(_key(layer, work) for layer in layers)]
    known = {key: stored for key in keys if (stored := work.store.find(key)) is not None}
    missing = [layer for layer in layers if _key(layer, work) not in known]
    if len(known) == len(set(keys)):
        return known
    with work.timed("fetch"):
        files = _fetch_wheels(work, {w.sha256: w for x in missing for w in x.wheels})
    with Roots(work, known) as roots:
        unknown = [i for i, key in enumerate(systems) if key not in known]
        system_jobs = [system_job(work, i, roots) for i in unknown]
        interpreter = _interpreter(work, roots) if _needs_python(missing) else None
        with work.timed("layers"):
            return known | _make(work, missing, files, interpreter, system_jobs)


def _needs_python(layers: Sequence[WheelLayer | BytecodeLayer]) -> bool:
    return any(isinstance(layer, BytecodeLayer) for layer in layers)


def _interpreter(work: Assembly, roots: Roots) -> Interpreter:
    stage = work.stages[0]
    cache = work.context.settings.cache_dir / "interpreters"
    return unpack_interpreter(roots.whole(0), stage.packages, stage.cell.python, cache)


def _fetch_wheels(work: Assembly, wheels: dict[str, LockedWheel]) -> dict[str, Path]:
    files = {
        sha256: path
        for sha256, wheel in wheels.items()
        if (path := cached(work.files, sha256, wheel.filename, wheel.size))
    }
    missing = [wheel for sha256, wheel in wheels.items() if sha256 not in files]
    if missing:
        settings = work.context.settings
        cell = work.stages[0].cell
        downloads = locate(missing, cell.python, settings, index_urls(cell, settings))
        files |= fetch_all(downloads, work.files, settings, work.context.reporter)
    return files


def _make(
    work: Assembly,
    layers: Sequence[WheelLayer | BytecodeLayer],
    files: dict[str, Path],
    interpreter: Interpreter | None,
    system_jobs: Sequence[SystemJob],
) -> dict[str, StoredLayer]:
    """Make `layers`; a damaged file in the cache is fetched again, once."""
    jobs = [_job(work, layer, files, interpreter) for layer in layers]
    made, failed = _run(work, [*system_jobs, *jobs])
    if failed and (bad := _damaged(failed, files)):
        wheels = {w.sha256: w for layer in layers for w in layer.wheels if w.sha256 in bad}
        names = ", ".join(bad.values())
        work.context.reporter.warn(f"damaged in the cache, fetched again: {names}")
        files = {**files, **_fetch_wheels(work, wheels)}
        again = [_job(work, x, files, interpreter) for x in layers if _key(x, work) in failed]
        made_again, failed = _run(work, again)
        made |= made_again
    for error in failed.values():
        raise error
    return made


def _run(
    work: Assembly, jobs: Sequence[Job]
) -> tuple[dict[str, StoredLayer], dict[str, WheelyardError]]:
    made: dict[str, StoredLayer] = {}
    failed: dict[str, WheelyardError] = {}
    total = sum(job.input_size for job in jobs)
    with work.context.reporter.task("layers", total, "bytes") as task:
        for job, result in run_jobs(jobs, work.context.settings.workers, task.advance):
            if isinstance(result, Layer):
                made[job.key] = work.store.add(job.key, job.scratch, result)
            else:
                failed[job.key] = result
    return made, failed


def _damaged(failed: dict[str, WheelyardError], files: dict[str, Path]) -> dict[str, str]:
    """Files whose bytes are not their hash's any more; removed here. SHA-256 -> name."""
    if not any(isinstance(error, WheelError) for error in failed.values()):
        return {}
    bad = {
        sha256: path.name
        for sha256, path in files.items()
        if file_digest(path) != f"sha256:{sha256}"
    }
    for sha256 in bad:
        files[sha256].unlink(missing_ok=True)
    return bad


def _job(
    work: Assembly,
    layer: WheelLayer | BytecodeLayer,
    files: dict[str, Path],
    interpreter: Interpreter | None,
) -> WheelJob:
    is_bytecode = isinstance(layer, BytecodeLayer)
    size = sum(wheel.size for wheel in layer.wheels)
    return WheelJob(
        key=_key(layer, work),
        title=layer.title,
        wheels=tuple(WheelInput(files[w.sha256], w.name, w.version) for w in layer.wheels),
        python=layer.python,
        scratch=work.store.scratch(),
        interpreter=interpreter if is_bytecode else None,
        weight=min(size * _BYTECODE_COST, 1 << 30) if is_bytecode else size,
        known=work.record.get(_key(layer, work)),
    )


def _key(layer: WheelLayer | BytecodeLayer, work: Assembly) -> str:
    if isinstance(layer, BytecodeLayer):
        return layer.key(interpreter_identity(work.stages[0].packages))
    return layer.key


def _top_layer(work: Assembly, cell_json: str, links: dict[str, str]) -> ImageLayer:
    files = top_files(cell_json)
    if links:
        files[PROFILE] = (PROFILE_TEXT.encode(), 0o644)
    return _small_layer(work, files, links, "selfcheck and the cell")


def _small_layer(
    work: Assembly, files: dict[str, tuple[bytes, int]], links: dict[str, str], title: str
) -> ImageLayer:
    key = top_key(files, links)
    stored = work.store.find(key)
    if stored is None:
        scratch = work.store.scratch()
        stored = work.store.add(key, scratch, write_top(files, links, scratch))
    return ImageLayer(stored, title, False)
