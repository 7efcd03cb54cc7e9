"""A project's image on this machine: in a layout, in an engine, and started."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.images.assemble.store import LayerStore
from wheelyard.oci.layout import Descriptor, Layout
from wheelyard.projects.image import describe_project_image
from wheelyard.projects.layers import Workshop, project_layers
from wheelyard.projects.publish import current_lock
from wheelyard.projects.published import FoundBase, find_base
from wheelyard.registry.client import open_registry
from wheelyard.servers.pulling import copy_into_podman, pull_image

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.images.build.loading import Loader
    from wheelyard.layers.layer import Layer
    from wheelyard.projects.table import Project


@dataclass(frozen=True, slots=True)
class BuiltProject:
    """A project's image in a layout."""

    tag: str  # "my-model:latest", in the layout and in engines
    manifest: Descriptor
    layers: tuple[Layer, ...]  # the project's own
    base: FoundBase
    layout: Layout
    base_name: str  # as an engine pulls the base
    is_whole: bool  # False: the layout lacks the base's layers, which a registry has


def build_project(
    project: Project, dist: Path, context: Context, *, bytecode: bool = False
) -> BuiltProject:
    """Put the project's image into the layout `dist`; raise as `push_project` does."""
    lock, address = current_lock(project), context.settings.registry
    opened = (
        nullcontext(None)
        if address is None
        else open_registry(address, context.settings, context.reporter)
    )
    with opened as registry:
        base = find_base(lock, registry, dist, context)
        python = None
        if bytecode:
            from wheelyard.projects.interpreter import find_interpreter

            python = find_interpreter(base, registry, context)
    layout = Layout(dist)
    layout.create()
    base_name = lock.base if address is None else address.reference(lock.base)
    store = LayerStore(context.settings.cache_dir)
    with tempfile.TemporaryDirectory(prefix=".project-", dir=dist) as scratch:
        shop = Workshop(store, Path(scratch), context, python, base.layout)
        layers = project_layers(project, base.image, lock, shop)
        for layer in layers:
            layout.put_layer(layer.stored)
        image = describe_project_image(layout, project, base.image, lock, layers, base_name)
    tag = f"{project.table.name}:latest"
    layout.set_references({**layout.references(), tag: image.manifest})
    layout.prune()
    own = tuple(layer.stored.layer for layer in layers)
    whole = all(layout.blob(digest).is_file() for digest in image.inherited)
    return BuiltProject(tag, image.manifest, own, base, layout, base_name, whole)


def load_into_docker(built: BuiltProject, loader: Loader, context: Context) -> None:
    """Load the image; the engine gets the base from its registry where the layout lacks it."""
    from wheelyard.engines.docker import has_image, pull
    from wheelyard.oci.address import pinned

    if not built.is_whole:
        digest = built.base.image.digest
        if not has_image(loader.client, pinned(built.base_name, digest)):
            pull(loader.client, built.base_name, digest, context.reporter)
    sizes = {layer.digest: layer.unpacked_size for layer in built.layers}
    loader.manifest(built.layout, built.manifest.digest, [built.tag], sizes)


def load_into_podman(built: BuiltProject, context: Context) -> None:
    """Load the image into podman, under a name of this host."""
    if not built.is_whole:
        pull_image(
            built.base_name, built.base.image.digest, "podman", context.settings, context.reporter
        )
    copy_into_podman(built.layout.folder, built.tag, f"localhost/{built.tag}")
