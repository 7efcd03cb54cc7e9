"""Selects the built images that may be published: those whose inspection passed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wheelyard.errors import InspectError, SelectionError, StorageError
from wheelyard.images.build.report import read_report
from wheelyard.registry.indexes import Shared
from wheelyard.registry.push import NotPushed, Publication, Supply

if TYPE_CHECKING:
    from wheelyard.model import Cell
    from wheelyard.oci.layout import Layout


@dataclass(frozen=True, slots=True)
class PublicationSource:
    """What will be published, and where its bytes are."""

    layout: Layout
    images: tuple[Publication, ...]
    failed: tuple[NotPushed, ...] = ()  # what was chosen and cannot be published
    supply: Supply | None = None  # adds missing layers to the layout
    origin: Layout | None = None  # the same images with gzip layers, if these have others


def split_name(name: str) -> tuple[str, str]:
    """Split `REPOSITORY:TAG` or `REPOSITORY@DIGEST`; raise SelectionError for anything else."""
    repository, _, reference = name.partition("@" if "@" in name else ":")
    if not repository or not reference:
        raise SelectionError(f"{name}: write REPOSITORY:TAG or REPOSITORY@sha256:DIGEST")
    return repository, reference


def publications(
    layout: Layout, cells: Sequence[Cell], *, only_built: bool = False, unverified: bool
) -> tuple[Publication, ...]:
    """Return the cells' images in `layout`; with `only_built`, only existing ones.

    Raises StorageError for a missing image, and InspectError for one that no build inspected,
    unless `unverified` allows that.
    """
    references = layout.references()
    verified = {
        (image["id"], image["digest"])
        for image in read_report(layout.folder)
        if image.get("inspected")
    }
    images = []
    for cell in cells:
        manifest = references.get(cell.tags[0])
        if manifest is None:
            if only_built:
                continue
            raise StorageError(
                f"{layout.folder} does not contain {cell.tags[0]}; run: wheelyard build {cell.id}"
            )
        if not unverified and (cell.id, manifest.digest) not in verified:
            raise InspectError(
                f"{cell.id} in {layout.folder} was not verified by a build; run `wheelyard build "
                f"{cell.id}`, or publish it as it is with --unverified"
            )
        tags = tuple(
            tag
            for tag in cell.tags
            if (there := references.get(tag)) is not None and there.digest == manifest.digest
        )
        shared = Shared(cell.architecture, cell.shared_tags) if cell.shared_tags else None
        images.append(Publication(cell.id, manifest.digest, tags, shared))
    if not images:
        raise StorageError(f"{layout.folder} has none of these images; run `wheelyard build`")
    return tuple(images)
