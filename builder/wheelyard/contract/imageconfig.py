"""The config of an image: environment, labels, user, entry point. One place for every engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from wheelyard.architecture import DEFAULT
from wheelyard.contract.compiler import HOME, has_compiler
from wheelyard.contract.editor import metadata
from wheelyard.contract.paths import UID, VENV, WORKDIR
from wheelyard.frameworks.known import FRAMEWORKS
from wheelyard.model import Cell, RequirementsLock
from wheelyard.planning.drivers import driver_floor, require_cuda
from wheelyard.planning.facts import CPU
from wheelyard.planning.tags import axes

OCI = "org.opencontainers.image"
CELL_LABEL = "wheelyard.cell"
# -s: reap children below another init, too (`docker run --init`, enroot), without a warning.
ENTRYPOINT = ("/usr/bin/tini", "-s", "--", "/opt/wheelyard/entrypoint")
# The signal that ends JupyterLab, TensorBoard and torchrun; a foreign base may set another.
_STOP_SIGNAL = "SIGTERM"
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What a container starts with; pairs keep the order in which they are written."""

    env: Pairs
    labels: Pairs  # sorted by name
    user: str = str(UID)  # by number: Kubernetes' runAsNonRoot cannot judge a name
    workdir: str = f"/{WORKDIR}"
    entrypoint: tuple[str, ...] = ENTRYPOINT
    cmd: tuple[str, ...] = ("bash",)
    stop_signal: str = _STOP_SIGNAL
    created: str | None = None  # RFC 3339; None: nothing says when its files came to be
    architecture: str = DEFAULT.name


def image_config(cell: Cell, lock: RequirementsLock) -> ImageConfig:
    """Return a cell's config: a function of the cell and its lock only."""
    return ImageConfig(
        env=_environment(cell, lock),
        labels=tuple(sorted(_labels(cell, lock).items())),
        created=lock.newest,
        architecture=cell.architecture,
    )


def base_config(cell: Cell, created: str | None = None) -> ImageConfig:
    """Return the config of the base image that a cell's Dockerfile starts from."""
    name = f"Debian {cell.base.suite}, Python {cell.python} ({cell.flavour.name})"
    return ImageConfig(
        env=(
            ("PATH", f"/{VENV}/bin:{_SYSTEM_PATH}"),
            ("VIRTUAL_ENV", f"/{VENV}"),
            ("LANG", "C.UTF-8"),
        ),
        labels=((f"{OCI}.title", name),),
        created=created,
        architecture=cell.architecture,
    )


def base_image(cell: Cell) -> str:
    """Return the name that a cell's base has in an engine: the system of its lowest flavour."""
    return f"wheelyard/base:{cell.base.full_name}-{cell.flavour.root or cell.flavour.name}"


def base_folder(cell: Cell) -> PurePosixPath:
    """Return the folder of the Dockerfile of a base that starts from a registry's image."""
    return PurePosixPath("images", "bases", base_image(cell).rpartition(":")[2])


def title(cell: Cell) -> str:
    """Return an image's name for people."""
    frameworks = " + ".join(f"{pin.name} {pin.version}" for pin in cell.frameworks)
    cuda = "CPU only" if cell.cuda == CPU else f"CUDA {cell.cuda}, cuDNN {cell.cudnn}"
    machine = "" if cell.architecture == DEFAULT.name else f", {cell.architecture}"
    return f"{frameworks}, {cuda}, Python {cell.python}{machine}"


def _environment(cell: Cell, lock: RequirementsLock) -> Pairs:
    compiler = has_compiler(lock.wheels)
    path = f"/{VENV}/bin:{_SYSTEM_PATH}"
    return (
        ("PATH", f"{path}:/{HOME}/bin" if compiler else path),
        *((("CUDA_HOME", f"/{HOME}"),) if compiler else ()),
        ("VIRTUAL_ENV", f"/{VENV}"),
        ("LANG", "C.UTF-8"),
        ("SHELL", "/bin/bash"),  # for Jupyter's terminals, which take `sh` otherwise, and tmux
        # `docker logs` and `kubectl logs` of a training show its lines when they are printed.
        ("PYTHONUNBUFFERED", "1"),
        *(() if cell.cuda == CPU else _driver(cell)),
        *_of_frameworks(cell),
    )


def _of_frameworks(cell: Cell) -> Iterator[tuple[str, str]]:
    """Yield what a framework's plugin needs, and what lets several share a GPU's memory."""
    for pin in cell.frameworks:
        plugin = FRAMEWORKS[pin.name].plugins.get(cell.cuda.partition(".")[0])
        if plugin is not None:
            yield from plugin.environment.items()
        if len(cell.frameworks) > 1:
            yield from FRAMEWORKS[pin.name].beside.items()


def _driver(cell: Cell) -> Pairs:
    return (
        ("NVIDIA_VISIBLE_DEVICES", "all"),
        ("NVIDIA_DRIVER_CAPABILITIES", "compute,utility"),
        ("NVIDIA_REQUIRE_CUDA", require_cuda(cell.cuda)),
    )


def _labels(cell: Cell, lock: RequirementsLock) -> dict[str, str]:
    name = f"{title(cell)} ({cell.flavour.name})"
    return {
        f"{OCI}.title": name,
        f"{OCI}.description": f"{name}, on Debian {cell.base.suite}, from wheels alone",
        f"{OCI}.version": cell.tags[0].rpartition(":")[2],
        f"{OCI}.base.name": base_image(cell),
        f"{OCI}.vendor": "Wheelyard",
        **({} if lock.newest is None else {f"{OCI}.created": lock.newest}),
        **{f"{OCI}.{name}": value for name, value in cell.about},
        CELL_LABEL: _json(_facts(cell, lock)),
        "devcontainer.metadata": _json(metadata(cell.flavour.name)),
    }


def _facts(cell: Cell, lock: RequirementsLock) -> dict[str, Any]:
    floor = None if cell.cuda == CPU else driver_floor(cell.cuda)
    facts: dict[str, Any] = {
        "id": cell.id,
        **axes(cell),
        "lock": lock.inputs,
        "driver": floor and {"minimum": floor.minimum, "native": floor.native},
    }
    # Said only where it is so: the label of an image that is as upstream built it stays short.
    if cell.policy != "match-build":
        facts["policy"] = cell.policy
    if cell.overrides:
        facts["overrides"] = list(cell.overrides)
    if cell.built_for:
        facts["built_for"] = dict(cell.built_for)
    if cell.index is not None:
        facts["index"] = cell.index
    return facts


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)
