"""Makes a project's published image again from its lock and files, and compares every bit."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.contract.imageconfig import OCI
from wheelyard.errors import ProjectError
from wheelyard.projects.interpreter import find_interpreter
from wheelyard.projects.publish import composed, current_lock
from wheelyard.projects.published import find_base
from wheelyard.publish.attest.signatures import require_signed
from wheelyard.publish.difference import Published, first_difference, in_layout
from wheelyard.publish.reproduce import (
    Reproduction,
    entries_here,
    entries_there,
    own_cache,
    read_published,
)

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.layers.toc import Entry
    from wheelyard.projects.table import Project
    from wheelyard.publish.attest.trust import Trust
    from wheelyard.registry.client import Registry


def reproduce_project(
    project: Project, reference: str, registry: Registry, dist: Path, context: Context,
    trust: Trust | None = None,
) -> Reproduction:  # fmt: skip
    """Compare the image that is published as `reference` (a tag or digest) with one made now.

    Only what was fetched is taken from the cache. The base's layers are those that the lock names.
    Raises RegistryError for an image that is not there, SignatureError where `trust` is given and
    it is not signed, LockError and ProjectError as `push_project`.
    """
    lock, name = current_lock(project), project.table.name
    full = registry.address.repository(name)
    theirs = read_published(registry, full, reference, f"{name}:{reference}")
    if trust is not None:
        require_signed(registry, name, theirs.digest, trust)
    base = find_base(lock, registry, dist, context)
    inherited = len(base.image.manifest["layers"])
    with (
        tempfile.TemporaryDirectory(prefix="wheelyard-reproduce-") as folder,
        own_cache(context, Path(folder) / "cache") as own,
    ):
        python = find_interpreter(base, registry, own) if _has_bytecode(theirs, inherited) else None
        base_name = _base_name(theirs, registry.address.reference(lock.base))
        with composed(project, base, lock, base_name, own, python) as (layout, image):
            ours = in_layout(layout, image.manifest.digest)

            def there(number: int) -> Sequence[Entry]:
                if number < inherited:
                    return ()
                return entries_there(registry, full, theirs, number, Path(folder))

            def here(number: int) -> Sequence[Entry]:
                if number < inherited:
                    return ()
                return entries_here(layout.blob(ours.layers[number]), ours, number)

            difference = first_difference(theirs, ours, there, here)
    return Reproduction(f"{name}:{reference}", theirs.digest, ours.digest, difference)


def _has_bytecode(image: Published, inherited: int) -> bool:
    own = (image.config.get("history") or ())[inherited:]
    return any("bytecode of" in str(step.get("created_by", "")) for step in own)


def _base_name(image: Published, default: str) -> str:
    """Return the name under which the base was found when the image was made."""
    labels = (image.config.get("config") or {}).get("Labels") or {}
    name = labels.get(f"{OCI}.base.name", default)
    if not isinstance(name, str):
        raise ProjectError("the published image has a base whose name is not a text")
    return name
