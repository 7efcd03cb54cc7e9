"""What a project is based on: an image of the set, from a registry's catalogue or the matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.architecture import DEFAULT
from wheelyard.errors import ProjectError, UsageError
from wheelyard.planning.catalogue import CatalogueEntry, plan_entries
from wheelyard.planning.plan import load_inputs
from wheelyard.planning.selector import is_described, nearest
from wheelyard.projects.base import planned_base
from wheelyard.projects.find import set_folder
from wheelyard.projects.published import Documents, base_from_registry
from wheelyard.publish.catalogue import require_catalogue
from wheelyard.registry.client import open_registry

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.projects.model import BaseImage
    from wheelyard.projects.table import Project
    from wheelyard.publish.attest.trust import Trust


@dataclass(frozen=True, slots=True)
class Ground:
    """What a project is based on, and the set's other images."""

    base: BaseImage
    entries: tuple[CatalogueEntry, ...]


def find_ground(project: Project, context: Context, trust: Trust | None = None) -> Ground:
    """Return the image that the project's table names: from the registry, else from the matrix.

    Raises UsageError if there is neither, ProjectError or SelectionError if they do not have it.
    """
    settings = context.settings
    if settings.registry is not None:
        with open_registry(settings.registry, settings, context.reporter) as registry:
            entries = require_catalogue(registry, trust)
            entry = chosen_entry(project.table.image, entries, str(settings.registry))
            documents = Documents(settings.cache_dir)
            base = base_from_registry(
                registry, entry.tags[0], documents, digest=entry.digest, trust=trust
            )
        return Ground(base, entries)
    folder = _set_folder(context)
    _matrix, upstream, plan = load_inputs(folder)
    base = planned_base(project.table.image, plan, folder)
    return Ground(base, plan_entries(plan.cells, upstream, ()))


def known_entries(context: Context, trust: Trust | None = None) -> tuple[CatalogueEntry, ...]:
    """Return the images that a project can be based on, as a catalogue lists them."""
    settings = context.settings
    if settings.registry is not None:
        with open_registry(settings.registry, settings, context.reporter) as registry:
            return require_catalogue(registry, trust)
    _matrix, upstream, plan = load_inputs(_set_folder(context))
    return plan_entries(plan.cells, upstream, ())


def _set_folder(context: Context) -> Path:
    folder = set_folder(context)
    if folder is None:
        raise UsageError(
            "the images that the project can be based on are unknown: name the registry that has "
            "them (--registry HOST/PREFIX or WHEELYARD_REGISTRY), or the folder of their "
            "matrix.yaml (--project FOLDER)"
        )
    return folder


def chosen_entry(image: str, entries: Sequence[CatalogueEntry], where: str) -> CatalogueEntry:
    """Return the one image of a catalogue that a table names by tag, id or axis words.

    Words that leave the architecture open mean amd64's.
    """
    exact = [entry for entry in entries if image in (entry.id, *entry.tags)]
    if exact:
        return exact[0]
    names = {name for entry in entries for name in entry.framework.split("+")}
    found = [e for e in entries if not e.special and is_described(e.id, image, names)]
    found = [entry for entry in found if entry.architecture == DEFAULT.name] or found
    if len(found) > 1:
        found = [entry for entry in found if entry.flavour == "runtime"] or found
    if len(found) == 1:
        return found[0]
    if found:
        means, near = "several images", [entry.tags[0] for entry in found[-4:]]
    else:
        means, near = "no image", nearest(image, [entry.tags[0] for entry in entries], 4)
    hint = (
        f"{'such as' if found else 'nearest'}: {', '.join(near)}"
        if near
        else "`wheelyard plan` lists them"
    )
    raise ProjectError(f'image = "{image}" means {means} of {where}; {hint}')
