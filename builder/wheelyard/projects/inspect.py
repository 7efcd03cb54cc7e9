"""A project's image read back from its layout, the base's files included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from wheelyard.architecture import ARCHITECTURES
from wheelyard.contract.paths import VENV, site_packages
from wheelyard.errors import ProjectError
from wheelyard.images.inspect.distributions import installed
from wheelyard.images.inspect.inspect import (
    Finding,
    distributions,
    folders,
    foreign_binaries,
    one_cuda,
)
from wheelyard.images.inspect.tree import LayerContents, Tree
from wheelyard.layers.whiteout import hidden, is_whiteout, removed
from wheelyard.oci.layout import Layout
from wheelyard.oci.reindex import reindex
from wheelyard.projects.metadata import identity, is_installed
from wheelyard.projects.publish import current_lock
from wheelyard.projects.published import find_base

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.projects.model import BaseImage, ProjectLock
    from wheelyard.projects.table import Project

# What the history says of layers that are not wheels.
_OTHERS = ("code of ", "without ", "Debian packages ", "bytecode of ")


def inspect_project(
    project: Project, dist: Path, context: Context, on_bytes: Callable[[int], None]
) -> tuple[Finding, ...]:
    """Inspect the image that `build` left in the layout `dist`; every blob is read to its end.

    Raises ProjectError if it or a layer of its base is not there, WheelError if two layers hold a
    path with different content.
    """
    lock, layout, tag = current_lock(project), Layout(dist), f"{project.table.name}:latest"
    found = layout.references().get(tag) if dist.is_dir() else None
    if found is None:
        raise ProjectError(f"{dist} does not contain {tag}; run: wheelyard build")
    base = find_base(lock, None, dist, context).image
    content, config = layout.read_image(found.digest)
    inherited = len(base.manifest["layers"])
    layers = []
    rows = zip(content["layers"], config["rootfs"]["diff_ids"], config["history"], strict=True)
    for number, (layer, diff_id, step) in enumerate(rows):
        blob, title = layout.blob(layer["digest"]), str(step["created_by"])
        if not blob.is_file():
            raise ProjectError(f"{dist} lacks a layer of {lock.base}: build the base there first")
        entries = reindex(blob, layer["digest"], diff_id, on_bytes)
        of_wheels = number >= inherited and _is_of_wheels(title, project)
        layers.append(LayerContents(blob, entries, title, of_wheels))
    tree, own = Tree(layers), layers[inherited:]
    machine = ARCHITECTURES[config["architecture"]]
    site = site_packages(lock.python)
    foreign = foreign_binaries(
        machine, lock.python, tree, site, (entry for layer in own for entry in layer.entries)
    )
    return (
        one_cuda(tree, site),
        distributions(_expected(project, lock, base), tree, site),
        Finding("removed distributions", "", "; ".join(_in_vain(layers))),
        folders(tree),
        Finding("architecture", "", "; ".join(foreign)),
        Finding("project", "", _project(project, tree, site)),
    )


def _is_of_wheels(title: str, project: Project) -> bool:
    text = title.removeprefix("wheelyard: ")
    return not text.startswith(_OTHERS) and text != f"{project.table.name} as installed"


def _expected(project: Project, lock: ProjectLock, base: BaseImage) -> set[tuple[str, str]]:
    """Return name and version of all that must be installed."""
    gone = {wheel.name for wheel in lock.shadowed}
    expected = {(wheel.name, wheel.version) for wheel in base.wheels if wheel.name not in gone}
    expected |= {(one.wheel.name, one.wheel.version) for one in lock.added(base)}
    if is_installed(project):
        name, version = identity(project)
        expected.add((canonicalize_name(name), version))
    return expected


def _in_vain(layers: Sequence[LayerContents]) -> list[str]:
    """List distributions that a layer removes although no layer below has them."""
    kinds: dict[str, str] = {}
    problems = []
    for layer in layers:
        for entry in layer.entries:
            gone = removed(entry.path) if is_whiteout(entry.path) else None
            if gone is not None and gone[0].endswith(".dist-info") and gone[0] not in kinds:
                problems.append(f"/{gone[0]} was not there")
        for path in hidden(kinds, ((entry.path, entry.kind) for entry in layer.entries)):
            del kinds[path]
        kinds |= {x.path: x.kind for x in layer.entries if not is_whiteout(x.path)}
    return problems


def _project(project: Project, tree: Tree, site: str) -> str:
    """Say what the image lacks of the project."""
    place = project.table.workdir.lstrip("/")
    if place not in tree:
        return f"/{place} is missing"
    if VENV not in tree or not any(True for _ in installed(tree, site)):
        return "nothing is installed"
    return ""
