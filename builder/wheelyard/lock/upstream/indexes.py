"""Where a matrix's frameworks come from: the default index, and the named ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from wheelyard.errors import FetchError
from wheelyard.frameworks.known import builds_of
from wheelyard.lock.upstream.refresh import FrameworkListing
from wheelyard.lock.upstream.simpleindex import read_listing
from wheelyard.lock.uv import default_index
from wheelyard.system.urls import redact

if TYPE_CHECKING:
    import httpx

    from wheelyard.context import Context
    from wheelyard.frameworks.record import Build
    from wheelyard.planning.matrix_model import FrameworkEntry, Matrix


def list_frameworks(
    matrix: Matrix, client: httpx.Client, context: Context
) -> list[FrameworkListing]:
    """List every framework of the default index, and of each named index with a known URL."""
    default = default_index(context.settings)
    listings = [
        _list_build(build, matrix.frameworks[name], None, default, client)
        for name in matrix.frameworks
        for build in builds_of(name, matrix.frameworks[name].distribution)
    ]
    for name, index, local in _named(matrix):
        if index in dict(context.settings.indexes):
            url = context.settings.index(index)
            entry = matrix.frameworks[name]
            listings += [
                _list_build(build, entry, local, url, client)
                for build in builds_of(name, entry.distribution)
            ]
        else:
            context.reporter.info(
                f"{name}: no setting gives the URL of the index {index}; its facts stay unchanged"
            )
    return listings


def _named(matrix: Matrix) -> Iterator[tuple[str, str, str]]:
    for name, entry in matrix.frameworks.items():
        for build in entry.indexes.values():
            yield name, build.index, build.local


def _list_build(
    build: Build, entry: FrameworkEntry, local: str | None, index: str, client: httpx.Client
) -> FrameworkListing:
    project = Requirement(build.distribution).name
    files = read_listing(client, index, project)
    if files is None:
        raise FetchError(
            f"the index {redact(index)} has no project {project} ({entry.title}); check "
            "--index-url, or `distribution` in matrix.yaml"
        )
    return FrameworkListing(build.name, build.distribution, entry.since, local, files, build.built)
