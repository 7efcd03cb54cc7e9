"""What a project's lock depends on, and whether that has changed. Offline."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from wheelyard.lock.sealed import digest
from wheelyard.projects.base import base_contents
from wheelyard.projects.files import tree_digest, tree_files
from wheelyard.projects.model import BaseImage, ProjectLock, ProjectWheel
from wheelyard.projects.requirements import (
    LOCAL,
    SourceRequirement,
    Wanted,
    collect,
    expanded,
    tree_of,
)
from wheelyard.projects.table import Project
from wheelyard.settings import Settings
from wheelyard.system.storage import is_file_of

FORMAT = 1  # part of every digest: raise it when the way projects are resolved changes
# How the settings call the project's own indexes, and those of single distributions.
_OWN_INDEX, _EXPLICIT = "project-", "explicit-"


def lock_problems(project: Project, lock: ProjectLock, base: BaseImage | None) -> list[str]:
    """Say what has changed since the lock was written. Offline.

    Without `base`, it is taken to be the one that was locked.
    """
    contents = lock.contents if base is None else base_contents(base)
    problems = []
    if base is not None and contents != lock.contents:
        problems.append(f"{base.reference} is no longer what {lock.base} was")
    wanted = collect(project, lock.python, lock.machine)
    if inputs_of(project, wanted, lock.contents) != lock.inputs:
        problems.append("the table or the requirements have changed")
    locked = {item.source: item for item in lock.wheels}
    problems += [
        f"{source.place.removeprefix(LOCAL)} has changed since its wheel was built"
        for source in wanted.sources
        if (item := locked.get(str(source))) is not None and has_changed(project, source, item)
    ]
    for item in lock.wheels:
        if item.path is not None and not is_locked_file(project, item):
            problems.append(f"{item.path} is missing, or another file than was locked{_of(item)}")
    return problems


def inputs_of(project: Project, wanted: Wanted, contents: str) -> str:
    """Return the digest (SHA-256 hex) of all that a project's lock depends on."""
    facts: dict[str, Any] = {
        "format": FORMAT,
        "image": project.table.image,
        "contents": contents,
        **({"packages": sorted(packages)} if (packages := project.table.packages) else {}),
        **wanted.facts(),
    }
    return digest(facts)


def index_settings(wanted: Wanted, settings: Settings) -> Settings:
    """Return the settings with the project's own indexes; one that the user set comes first."""

    def address(url: str) -> str:
        return with_login(expanded(url), wanted.index_names.get(url))

    named = [(f"{_OWN_INDEX}{at}", address(url)) for at, url in enumerate(wanted.indexes)]
    named += [(f"{_EXPLICIT}{name}", address(url)) for name, url in wanted.explicit.items()]
    own = None if wanted.index is None else address(wanted.index)
    return replace(
        settings,
        index_url=settings.index_url or own,
        indexes=(*settings.indexes, *named),
    )


def own_indexes(settings: Settings) -> tuple[str, ...]:
    """Return the project's own indexes among those of `index_settings`."""
    return tuple(url for name, url in settings.indexes if name.startswith(_OWN_INDEX))


def explicit_indexes(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Return name -> index of what the project takes from one index alone, as pairs."""
    return tuple(
        (name.removeprefix(_EXPLICIT), url)
        for name, url in settings.indexes
        if name.startswith(_EXPLICIT)
    )


def places_of(name: str, settings: Settings) -> Iterator[str]:
    """Yield the indexes that may have a distribution, in the order in which they are asked."""
    if (only := dict(explicit_indexes(settings)).get(name)) is not None:
        yield only
        return
    from wheelyard.lock.uv import default_index  # a push needs none

    yield from own_indexes(settings)
    yield default_index(settings)


def with_login(url: str, name: str | None) -> str:
    """Add the login that uv's variables have for an index of that name."""
    parts = urlsplit(url)
    stem = "UV_INDEX_" + re.sub(r"[^A-Z0-9]", "_", (name or "").upper())
    user, password = (os.environ.get(f"{stem}_{key}", "") for key in ("USERNAME", "PASSWORD"))
    if name is None or "@" in parts.netloc or not (user or password):
        return url
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc}"))


def is_locked_file(project: Project, item: ProjectWheel) -> bool:
    """Tell whether a wheel of the project is there as it was locked."""
    path = project.folder / str(item.path)
    try:
        return path.stat().st_size == item.wheel.size and is_file_of(path, item.wheel.sha256)
    except OSError:
        return False


def has_changed(project: Project, source: SourceRequirement, item: ProjectWheel) -> bool:
    """Tell whether the folder that a locked wheel was built of is another now."""
    folder = tree_of(source.place, project.folder)
    return folder is not None and tree_digest(tree_files(folder, project)) != item.revision


def _of(item: ProjectWheel) -> str:
    """Say how a wheel that was built comes back."""
    if item.source is None:
        return ""
    return f": copy it from where it was built (of {item.source}), or have it built again"
