"""Where a matrix's frameworks come from: each on the default index, and on those it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from wheelyard.errors import FetchError
from wheelyard.lock.upstream.refresh import Shelf
from wheelyard.lock.upstream.simpleindex import read_listing
from wheelyard.lock.uv import default_index
from wheelyard.system.urls import redact

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from wheelyard.context import Context
    from wheelyard.planning.matrix_model import Matrix


def make_shelves(matrix: Matrix, client: httpx.Client, context: Context) -> list[Shelf]:
    """Ask the default index for every framework, and each named index whose URL is a setting."""
    default = default_index(context.settings)
    shelves = [_shelf(matrix, name, None, default, client) for name in matrix.frameworks]
    for name, index, local in _named(matrix):
        if index in dict(context.settings.indexes):
            url = context.settings.index(index)
            shelves.append(_shelf(matrix, name, local, url, client))
        else:
            context.reporter.info(
                f"{name}: no setting says where the index {index} is; its facts stay as they are"
            )
    return shelves


def _named(matrix: Matrix) -> Iterator[tuple[str, str, str]]:
    for name, entry in matrix.frameworks.items():
        for build in entry.indexes.values():
            yield name, build.index, build.local


def _shelf(matrix: Matrix, name: str, local: str | None, index: str, client: httpx.Client) -> Shelf:
    entry = matrix.frameworks[name]
    project = Requirement(entry.distribution).name
    files = read_listing(client, index, project)
    if files is None:
        raise FetchError(
            f"the index {redact(index)} has no project {project} ({entry.title}); check "
            "--index-url, or `distribution` in matrix.yaml"
        )
    return Shelf(name, entry.distribution, entry.since, local, files)
