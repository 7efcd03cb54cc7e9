"""The layers that a project adds to its base image.

What the base has in another version is removed, then come wheels, the project's own metadata, and
last its code, which changes most. Wheels are layers of the cache, as those of the set are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from wheelyard.contract.exclusions import is_compiled
from wheelyard.contract.recipe import BytecodeLayer, WheelLayer, added_layers
from wheelyard.errors import ProjectError, WheelError, WheelyardError
from wheelyard.images.assemble.accounts import empty_environment
from wheelyard.images.assemble.image import ImageLayer
from wheelyard.images.assemble.worker import Job, WheelJob, make_layer
from wheelyard.layers.errors import LayersError
from wheelyard.layers.install import plan_install
from wheelyard.layers.layer import FORMAT, Layer, LayerWriter
from wheelyard.layers.wheel import Wheel
from wheelyard.layers.wheels import WheelInput, add_parents
from wheelyard.oci.blobs import StoredLayer, read_content
from wheelyard.projects.code import write_code
from wheelyard.projects.files import project_files
from wheelyard.projects.metadata import is_installed, write_metadata
from wheelyard.projects.model import BaseImage, ProjectLock, ProjectWheel
from wheelyard.projects.table import Project

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.images.assemble.bytecode import Interpreter
    from wheelyard.images.assemble.store import LayerStore
    from wheelyard.model import LockedWheel
    from wheelyard.oci.layout import Layout

_FEW = 32 << 20  # bytes of wheels that are not worth starting processes for
_BYTECODE_COST = 40  # a byte of a wheel, compiled, takes as long as this many copied ones
_EMPTY = 1024  # bytes of a tar without entries
_LAYERS_MAX = 125  # Docker's overlay2 mounts no more than 128


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where layers are made and kept."""

    store: LayerStore
    scratch: Path  # a folder for layers that are not kept in the cache: they change too often
    context: Context
    interpreter: Interpreter | None = None  # the base's, to compile with; None: no bytecode
    layout: Layout | None = None  # one that holds the base's layers


def project_layers(
    project: Project, base: BaseImage, lock: ProjectLock, shop: Workshop
) -> list[ImageLayer]:
    """Return the layers above the base's, lowest first; make those that the cache does not have.

    Raises ProjectError for a project that cannot become an image, WheelError, FetchError.
    """
    files = project_files(project)  # first: it is quick, and refuses what nobody wants to publish
    layers = [
        *_packages(project, base, lock, shop),
        *_removal(lock.shadowed, base.python, shop),
        *_wheels(lock.added(base), project, base.python, shop),
        *_metadata(project, base.python, shop),
    ]
    blob = shop.scratch / "code"
    made = write_code(blob, files, project.table.workdir, project.table.include)
    layers.append(ImageLayer(StoredLayer(made, blob), f"code of {project.table.name}", False))
    if len(layers) + len(base.manifest["layers"]) > _LAYERS_MAX:
        raise ProjectError(
            f"the image would have {len(layers) + len(base.manifest['layers'])} layers; engines "
            f"take at most {_LAYERS_MAX}"
        )
    return layers


def _packages(
    project: Project, base: BaseImage, lock: ProjectLock, shop: Workshop
) -> Iterator[ImageLayer]:
    if lock.debian is None:
        return
    from wheelyard.projects.packages import packages_layer
    from wheelyard.projects.places import Places

    places = Places(project, base, (), shop.context, shop.layout)
    yield from packages_layer(project, lock.debian, places, shop.store, shop.context)


def _metadata(project: Project, python: str, shop: Workshop) -> Iterator[ImageLayer]:
    lock = project.lock.read_bytes() if project.lock.is_file() else b""
    if not lock and not is_installed(project):
        return
    blob = shop.scratch / "metadata"
    made = write_metadata(blob, project, python, lock)
    yield ImageLayer(StoredLayer(made, blob), f"{project.table.name} as installed", False)


def _wheels(
    wheels: Sequence[ProjectWheel], project: Project, python: str, shop: Workshop
) -> list[ImageLayer]:
    of_wheels = added_layers([one.wheel for one in wheels], python)
    planned: dict[str, WheelLayer | BytecodeLayer] = {x.key: x for x in of_wheels}
    if (interpreter := shop.interpreter) is not None:
        bytecode = [BytecodeLayer(x.wheels, python) for x in of_wheels]
        planned |= {x.key(interpreter.identity): x for x in bytecode}
    found = {key: stored for key in planned if (stored := shop.store.find(key)) is not None}
    if missing := {key: x for key, x in planned.items() if key not in found}:
        of_hash = {one.wheel.sha256: one for one in wheels}
        needed = {w.sha256: of_hash[w.sha256] for x in missing.values() for w in x.wheels}
        files = fetch_wheels(list(needed.values()), project, python, shop.context)
        found |= _made([_job(key, x, files, shop) for key, x in missing.items()], shop)
    _require_apart([found[key] for key in planned], shop)
    layers = [ImageLayer(found[key], x.title, True) for key, x in planned.items()]
    # A wheel of libraries alone has no module that could be compiled.
    return [x for x in layers if x.stored.layer.unpacked_size > _EMPTY]


def _job(
    key: str, layer: WheelLayer | BytecodeLayer, files: Mapping[str, Path], shop: Workshop
) -> WheelJob:
    compiled = isinstance(layer, BytecodeLayer)
    return WheelJob(
        key=key,
        title=layer.title,
        wheels=tuple(
            WheelInput(files[w.sha256], w.name, w.version, w.sha256) for w in layer.wheels
        ),
        python=layer.python,
        scratch=shop.store.scratch(),
        interpreter=shop.interpreter if compiled else None,
        weight=sum(w.size for w in layer.wheels) * (_BYTECODE_COST if compiled else 1),
    )


def _made(jobs: Sequence[WheelJob], shop: Workshop) -> dict[str, StoredLayer]:
    made = {}
    with shop.context.reporter.task("layers", sum(x.weight for x in jobs), "bytes") as task:
        for job, result in _run(jobs, shop, task.advance):
            if isinstance(result, WheelyardError):
                raise result
            made[job.key] = shop.store.add(job.key, job.scratch, result)
    return made


def _run(
    jobs: Sequence[WheelJob], shop: Workshop, advance: Callable[[int], None]
) -> Iterator[tuple[Job, Layer | WheelyardError]]:
    """Make layers here, or where there is much to do in processes of their own."""
    if len(jobs) > 1 and sum(job.weight for job in jobs) > _FEW:
        from wheelyard.images.assemble.pool import run_jobs, warm_up

        warm_up()
        yield from run_jobs(jobs, shop.context.settings.workers, advance)
        return
    for job in jobs:
        yield job, make_layer(job)
        advance(job.weight)


def _require_apart(layers: Sequence[StoredLayer], shop: Workshop) -> None:
    """Raise WheelError if two layers hold one path with different bytes."""
    seen: dict[str, tuple[int, int]] = {}
    for stored in layers:
        for entry in shop.store.entries(stored.layer):
            content = entry.size, entry.crc
            if entry.kind == "file" and seen.setdefault(entry.path, content) != content:
                owners = sorted({name for x in layers for name in _owners(entry.path, x, shop)})
                raise WheelError(
                    f"{' and '.join(owners)} both hold /{entry.path}, with different content; an "
                    "image cannot hold both: require only one of them"
                )


def _owners(path: str, stored: StoredLayer, shop: Workshop) -> Iterator[str]:
    """Yield the distributions of a layer whose RECORD lists a file."""
    for entry in shop.store.entries(stored.layer):
        folder, _, name = entry.path.rpartition("/")
        if name != "RECORD" or not folder.endswith(".dist-info"):
            continue
        site, _, info = folder.rpartition("/")
        relative = os.path.relpath(path, site)
        if any(
            line.startswith((f"{relative},", f'"{relative}",'))
            for line in read_content(stored.path, entry).decode().splitlines()
        ):
            yield info.removesuffix(".dist-info").replace("-", " ")


def fetch_wheels(
    wheels: Sequence[ProjectWheel], project: Project | None, python: str, context: Context
) -> dict[str, Path]:
    """Return SHA-256 -> file in the cache of wheels; fetch those that are not there.

    The indexes of `project` are asked, too, with the logins that its requirements name.
    """
    from wheelyard.fetching.fetch import fetch_all
    from wheelyard.fetching.wanted import Download, cached

    settings, files = context.settings, context.settings.cache_dir / "files"
    there = {}
    downloads: list[Download] = []
    unlocated: list[LockedWheel] = []
    for one in wheels:
        wheel = one.wheel
        if path := cached(files, wheel.sha256, wheel.filename, wheel.size):
            there[wheel.sha256] = path
            continue
        url = one.url
        if one.path is not None and project is not None:
            url = (project.folder / one.path).resolve().as_uri()
        if url is None:
            unlocated.append(wheel)
        else:
            downloads.append(Download(url, wheel.filename, wheel.sha256, wheel.size))
    indexes: tuple[str, ...] = ()
    explicit: tuple[tuple[str, str], ...] = ()
    if project is not None and (downloads or unlocated):
        from wheelyard.projects.requirements import collect
        from wheelyard.projects.state import explicit_indexes, index_settings, own_indexes

        settings = index_settings(collect(project, python), settings)
        indexes, explicit = own_indexes(settings), explicit_indexes(settings)
    if unlocated:
        from wheelyard.lock.index import locate

        downloads += locate(unlocated, python, settings, indexes, explicit)
    return there | fetch_all(downloads, files, settings, context.reporter)


def _removal(wheels: Sequence[LockedWheel], python: str, shop: Workshop) -> Iterator[ImageLayer]:
    """Yield the layer that removes distributions of the base."""
    if not wheels:
        return
    parts = [FORMAT, "removed", python, *sorted(wheel.sha256 for wheel in wheels)]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    names = ", ".join(f"{wheel.name} {wheel.version}" for wheel in wheels)
    stored = shop.store.find(key)
    if stored is None:
        files = fetch_wheels(list(map(ProjectWheel, wheels)), None, python, shop.context)
        scratch = shop.store.scratch()
        stored = shop.store.add(key, scratch, write_removal(scratch, wheels, files, python))
    yield ImageLayer(stored, f"without {names}", False)


def write_removal(
    blob: Path, wheels: Sequence[LockedWheel], files: Mapping[str, Path], python: str
) -> Layer:
    """Write a layer of whiteouts: what installing the wheels put there, and their bytecode."""
    environment = empty_environment(python)
    gone: set[str] = set()
    try:
        for locked in wheels:
            with Wheel(files[locked.sha256]) as wheel:
                for target in plan_install(wheel, locked.name, locked.version, environment):
                    gone |= _places(target.path, python)
    except LayersError as error:
        raise WheelError(str(error)) from error
    with LayerWriter(blob, packed=True) as writer:
        for path in sorted(gone):
            if any(str(folder) in gone for folder in PurePosixPath(path).parents):
                continue
            add_parents(writer, path, environment)
            writer.remove(path)
        return writer.finish()


def _places(path: str, python: str) -> set[str]:
    """Return what goes with an installed file: itself, its bytecode; metadata as a whole folder."""
    file = PurePosixPath(path)
    if file.parent.name.endswith(".dist-info"):
        return {str(file.parent)}
    if not is_compiled(path):
        return {path}
    tag = f"cpython-{python.replace('.', '')}"
    return {path, str(file.parent / "__pycache__" / f"{file.stem}.{tag}.pyc")}
