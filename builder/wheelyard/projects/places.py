"""Where the sources of a project can be built: the layers of its base, and its devel image."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.architecture import of_machine
from wheelyard.errors import EngineError, ProjectError, SelectionError
from wheelyard.images.assemble.store import LayerStore
from wheelyard.oci.layout import Layout
from wheelyard.projects.chamber import layer_blob
from wheelyard.projects.find import DIST, set_folder
from wheelyard.projects.published import (
    Documents,
    FoundBase,
    base_from_layout,
    base_from_registry,
)
from wheelyard.registry.client import open_registry

if TYPE_CHECKING:
    from docker import DockerClient

    from wheelyard.context import Context
    from wheelyard.planning.catalogue import CatalogueEntry
    from wheelyard.projects.model import BaseImage
    from wheelyard.projects.table import Project

_ENV = "Env"
# In the history of an image of the set
_OURS, _DEBIAN, _BYTECODE = "wheelyard: ", "Debian ", "bytecode of "
_SINGLE = re.compile(r"([a-z0-9.-]+) [^\s,]+")  # a distribution that has a layer of its own


class Places:
    """Finds the layers and the engine that a build needs, when it needs them."""

    def __init__(
        self,
        project: Project,
        base: BaseImage,
        entries: Sequence[CatalogueEntry],
        context: Context,
        layout: Layout | None = None,
    ) -> None:
        """Prepare; `layout` is one that holds the base's layers."""
        self._base, self._entries, self._context = base, entries, context
        self._store = LayerStore(context.settings.cache_dir)
        self._devel_tag = base.devel
        self._names = {wheel.name for wheel in base.wheels}
        folders = [project.folder, *filter(None, [set_folder(context)])]
        self._layouts = [*filter(None, [layout]), *(Layout(x / DIST) for x in folders)]

    def lowest(self) -> Sequence[Path]:
        """Return the blob of the base's lowest layer; none if it is nowhere."""
        return self._blobs(self._base.reference, lowest=True)

    def devel(self) -> Sequence[Path]:
        """Return the blobs of the devel image's layers; none if one of them is nowhere.

        Left out is what no build needs: bytecode, and big distributions that the base lacks.
        """
        return self._blobs(self._devel_tag, self._is_built_with)

    def debian(self) -> Sequence[Path]:
        """Return the blobs of the base's Debian packages; none if one of them is nowhere."""
        return self._blobs(self._base.reference, _is_debian)

    def compilers(self) -> Sequence[Path]:
        """Return the blobs of the devel image's Debian packages: compilers without CUDA."""
        return self._blobs(self._devel_tag, _is_debian)

    def environment(self) -> dict[str, str]:
        """Return the environment of the devel image."""
        found = self._found(self._devel_tag)
        config = {} if found is None else found.image.config.get("config") or {}
        pairs = (str(text).partition("=") for text in config.get(_ENV) or ())
        return {name: value for name, _, value in pairs}

    def has_container(self) -> bool:
        """Tell whether an engine of this machine has the devel image."""
        return self._engine is not None

    def contained(
        self,
        folder: Path,
        place: str,
        ids: tuple[int, int],
        argv: list[str],
        env: Mapping[str, str],
    ) -> tuple[int, str] | None:
        """Run a program in a container of the devel image, with `folder` at `place`."""
        if self._engine is None:
            return None
        from wheelyard.engines.containers import run_contained

        client, name = self._engine
        return run_contained(client, name, argv, env=env, folder=folder, place=place, ids=ids)

    def runs_here(self) -> bool:
        """Tell whether this machine's processor runs the base's programs."""
        return of_machine(platform.machine()) == of_machine(self._base.machine)

    def advice(self) -> str:
        """Say how a build becomes possible on this machine, or how to bring a wheel."""
        if not self.runs_here():
            return (
                f"it is built in {self._devel_tag}, which runs on {self._base.machine} only: lock "
                "on such a machine. Or build the wheel there, and name its folder in the table: "
                'find-links = ["wheels"]'
            )
        where = "on Linux, as root or with user namespaces" if sys.platform == "linux" else "here"
        return (
            f"it is built in {self._devel_tag}: get that image (`wheelyard build {self._devel_tag}`"
            f" or `wheelyard pull {self._devel_tag}`) and lock again {where}. Otherwise build the "
            'wheel elsewhere, and name its folder in the table: find-links = ["wheels"]'
        )

    @cached_property
    def _engine(self) -> tuple[DockerClient, str] | None:
        from wheelyard.engines.docker import connect, has_image, is_local

        names = [self._devel_tag]
        if (address := self._context.settings.registry) is not None:
            names.insert(0, address.reference(self._devel_tag))
        try:
            client = connect()
            if client is None or not is_local(client):
                return None
            name = next((name for name in names if has_image(client, name)), None)
        except EngineError as error:
            self._context.reporter.warn(f"without an engine: {error}")
            return None
        return None if name is None else (client, name)

    def _is_built_with(self, title: str) -> bool:
        if (single := _SINGLE.fullmatch(title)) is None:
            return not title.startswith(_BYTECODE)
        return single[1] in self._names or single[1].startswith(("nvidia-", "cuda-"))

    def _blobs(
        self, tag: str, wanted: Callable[[str], bool] = bool, *, lowest: bool = False
    ) -> Sequence[Path]:
        """Return layers of an image: the lowest, or those with a wanted title."""
        if sys.platform != "linux":  # nothing to confine a build with
            return ()
        if (found := self._found(tag)) is None:
            return self._planned(tag, wanted, lowest=lowest)
        texts = (str(step.get("created_by")) for step in found.image.config["history"])
        titles = chain((text.removeprefix(_OURS) for text in texts), repeat("?"))
        pairs = zip(found.image.manifest["layers"], titles, strict=False)
        layers = [layer for layer, title in pairs if wanted(title)][: 1 if lowest else None]
        address, settings = self._context.settings.registry, self._context.settings
        with ExitStack() as opened:
            registry = None
            if address is not None:
                registry = opened.enter_context(
                    open_registry(address, settings, self._context.reporter)
                )
            try:
                return [
                    layer_blob(layer, found, registry, self._store, self._context)
                    for layer in layers
                ]
            except ProjectError:
                return ()

    def _found(self, tag: str) -> FoundBase | None:
        """Describe an image, from the registry or else a layout."""
        settings = self._context.settings
        if settings.registry is not None:
            if tag == self._base.reference:
                return FoundBase(self._base, None)
            entry = next((entry for entry in self._entries if tag in entry.tags), None)
            if entry is None:
                return None
            documents = Documents(settings.cache_dir)
            with open_registry(settings.registry, settings, self._context.reporter) as registry:
                image = base_from_registry(registry, tag, documents, digest=entry.digest)
            return FoundBase(image, None)
        digest = (self._base.digest or None) if tag == self._base.reference else None
        for layout in self._layouts:
            if layout.folder.is_dir() and tag in layout.references():
                return FoundBase(base_from_layout(layout, tag, digest=digest), layout)
        return None

    def _planned(self, tag: str, wanted: Callable[[str], bool], *, lowest: bool) -> Sequence[Path]:
        """Return layers of an image of the matrix that the cache has from a build."""
        folder = set_folder(self._context)
        if folder is None or self._context.settings.registry is not None:
            return ()
        from wheelyard.images.assemble.planned import planned_layers
        from wheelyard.lock.stages import load_stages
        from wheelyard.planning.plan import load_plan
        from wheelyard.projects.base import base_cell

        plan = load_plan(folder)
        try:
            cell = base_cell(tag, plan)
        except SelectionError:  # an image without a devel flavour
            return ()
        planned = planned_layers(load_stages(cell, plan, folder))[: 1 if lowest else None]
        found = [self._store.find(x.key) for x in planned if wanted(x.title)]
        return () if None in found else [layer.path for layer in found if layer is not None]


def _is_debian(title: str) -> bool:
    return title.startswith(_DEBIAN)
