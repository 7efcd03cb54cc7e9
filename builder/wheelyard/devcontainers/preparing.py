"""Prepares a dev container of this repository before it starts: an engine, a GPU, its image."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard import selfcheck
from wheelyard.errors import EngineError, MachineError, StorageError
from wheelyard.images.build.build import build_images
from wheelyard.images.build.loading import find_loader
from wheelyard.images.build.results import Failed
from wheelyard.rendering.devcontainers import GPU, Variant
from wheelyard.rendering.published import load_published
from wheelyard.system.storage import REMEDY, storage_error

if TYPE_CHECKING:
    from docker import DockerClient

    from wheelyard.context import Context
    from wheelyard.model import Cell, Plan
    from wheelyard.servers.machine import Gpus

_FEATURE = Path("devcontainer", "features", "wheelyard")
_CACHES = shutil.ignore_patterns("__pycache__")
_FOLDER_LABEL = "devcontainer.local_folder"  # what dev container programs write on a container


def prepare(variant: Variant, plan: Plan, dist: Path, context: Context) -> str:
    """Make and load the image of `variant` unless it is published or already loaded.

    Where there is one for the engine's processor, that one gets the name of the default's. Returns
    a description of the result. Raises EngineError without an engine, and MachineError without a
    required GPU.
    """
    from wheelyard.engines.docker import has_image, name_image

    client = _find_engine(variant, context)
    tag = variant.cell.tags[0]
    published = load_published(context.settings.project).get(tag)
    if published is not None:
        return f"{published} is published; the engine pulls it (`unpin`: make it here)"
    if has_image(client, tag):
        return f"{tag} is in the engine"
    cell = _native(variant.cell, plan, client)
    (made,) = build_images([cell], plan, dist, context, load=find_loader(True, context))
    if isinstance(made, Failed):
        raise made.error
    if cell.tags[0] == tag:
        return f"{tag} was made and loaded"
    name_image(client, cell.tags[0], tag)
    return f"{tag} was made for {cell.architecture} and loaded"


def _native(cell: Cell, plan: Plan, client: DockerClient) -> Cell:
    """Return the same image for the engine's processor; itself if there is none."""
    from wheelyard.engines.docker import architecture_of

    there = architecture_of(client)
    if there is None:
        return cell
    siblings = (x for x in plan.cells if x.sibling == cell.id)
    return next((x for x in siblings if x.architecture == there.name), cell)


def _find_engine(variant: Variant, context: Context) -> DockerClient:
    """Return the engine that answers; warn about containers that a failed start left."""
    from wheelyard.engines.docker import connect, find_endpoint, never_started
    from wheelyard.servers.machine import read_gpus

    client = connect()
    if client is None:
        raise EngineError(_no_engine(variant.name))
    if variant.requires_gpu and find_endpoint().url.startswith("unix:"):
        require_gpu(variant.name, read_gpus())
    for left in never_started(client, f"{_FOLDER_LABEL}={context.settings.project}"):
        context.reporter.warn(
            f"container {left} is left over from a start that failed, and would be started again: "
            f"if that fails too, remove it: docker rm -v {left}"
        )
    return client


def write_feature(project: Path, target: Path) -> None:
    """Write the local feature to the folder `target`: its two files, and selfcheck.

    Raises StorageError if that is not possible.
    """
    package = Path(selfcheck.__file__).parent
    try:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(project / _FEATURE, target)
        shutil.copytree(package, target / package.name, ignore=_CACHES)
    except shutil.Error as error:  # of several files: source, target and reason
        _source, name, why = error.args[0][0]
        raise StorageError(f"cannot write {name}: {why}; {REMEDY}") from error
    except OSError as error:
        raise storage_error(error) from error


def _no_engine(name: str) -> str:
    """Say what to do if no engine answers."""
    return (
        "no Docker Engine answers, and a dev container needs one: start it (on Windows and "
        "macOS Docker Desktop), or name it by DOCKER_HOST or `docker context use`; then open the "
        f"folder again. `make devcontainer NAME={name}` shows this without an editor"
    )


def require_gpu(name: str, gpus: Gpus) -> None:
    """Raise MachineError on a machine without a driver, naming the variant to use there.

    Whether the engine can pass on GPUs is left to the engine: Docker Desktop lists no GPU runtime
    and passes on GPUs all the same.
    """
    if gpus.driver is None:
        raise MachineError(
            f"the dev container {name!r} requires an NVIDIA GPU, and this machine has none that "
            f"answers ({gpus.problem}): use {name.removesuffix(GPU)!r}, which takes a GPU where "
            "there is one; `wheelyard doctor --for gpu` says what is missing"
        )
