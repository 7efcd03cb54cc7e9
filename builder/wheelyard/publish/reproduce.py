"""Builds a published image again, from its locks alone, and compares the two."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.context import Context
from wheelyard.contract.imageconfig import CELL_LABEL
from wheelyard.errors import InspectError, RegistryError, SelectionError, SignatureError
from wheelyard.fetching.replies import Gone
from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.assemble.system import share_systems
from wheelyard.images.build.build import build_images
from wheelyard.images.build.results import Built
from wheelyard.layers.estargz import TOC_DIGEST
from wheelyard.lock.stages import load_stages
from wheelyard.oci.documents import (
    CellLabel,
    ConfigDocument,
    ImageManifest,
    UnreadableError,
    read_document,
)
from wheelyard.oci.layout import ZSTD_TYPE, Layout, digest_of
from wheelyard.oci.reindex import reindex
from wheelyard.publish.attest.signatures import require_signed
from wheelyard.publish.difference import (
    Difference,
    Published,
    as_files,
    first_difference,
    in_layout,
)
from wheelyard.publish.published import PublicationSource, split_name
from wheelyard.publish.recompress import ESTARGZ
from wheelyard.publish.repacked import repacked_images
from wheelyard.registry.client import Registry, fetch_blob, get_content
from wheelyard.registry.indexes import image_manifest
from wheelyard.registry.push import Publication
from wheelyard.system.storage import storage_error

if TYPE_CHECKING:
    from wheelyard.layers.toc import Entry
    from wheelyard.model import Cell, Plan
    from wheelyard.publish.attest.trust import Trust

# Parts of the cache that hold what was fetched, not what was made.
_FETCHED = ("files", "uv", "interpreters")


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The result of building an image again."""

    id: str  # the cell, or the name of a project's image
    theirs: str  # digests of the manifests
    ours: str
    difference: Difference | None


def reproduce(
    registry: Registry, name: str, plan: Plan, context: Context, trust: Trust | None = None
) -> Reproduction:
    """Build the image `REPOSITORY:TAG` or `REPOSITORY@DIGEST` below the registry's prefix again.

    Of the cache's layers only those of Debian packages are used: making them needs root and half a
    minute each. Raises RegistryError if the registry does not have the image, SelectionError if
    this project does not, SignatureError if `trust` is given and it is not signed, and as `build`.
    """
    repository, reference = split_name(name)
    full = registry.address.repository(repository)
    theirs = read_published(registry, full, reference, name)
    if trust is not None:
        require_signed(registry, repository, theirs.digest, trust)
    cell = _cell(theirs, plan, name)
    if trust is not None and "@" not in name and name not in cell.tags:
        raise SignatureError(
            f"{name} is signed, and is {cell.id}, which this project calls {cell.tags[0]}: "
            "the tag was moved there, or the project has changed since"
        )
    try:
        folder = tempfile.TemporaryDirectory(prefix="wheelyard-reproduce-")
    except OSError as error:
        raise storage_error(error) from error
    with folder as scratch, own_cache(context, Path(scratch) / "cache") as own:
        layout = Layout(Path(scratch) / "layout")
        stages = load_stages(cell, plan, context.settings.project)
        share_systems(stages, *(LayerStore(x.settings.cache_dir) for x in (context, own)))
        (built,) = build_images([cell], plan, layout.folder, own, recompute=True)
        if not isinstance(built, Built):
            raise built.error
        ours = in_layout(layout, built.image.manifest.digest)
        if any(TOC_DIGEST in x.get("annotations", {}) for x in theirs.manifest["layers"]):
            lazily = _lazily(layout, built, own)
            difference = first_difference(theirs, lazily, lambda _: (), lambda _: ())
            return Reproduction(cell.id, theirs.digest, lazily.digest, difference)
        if any(layer.get("mediaType") == ZSTD_TYPE for layer in theirs.manifest["layers"]):
            difference = first_difference(
                as_files(theirs), as_files(ours), lambda _: (), lambda _: ()
            )
            return Reproduction(cell.id, theirs.digest, ours.digest, difference)
        difference = first_difference(
            theirs,
            ours,
            lambda number: entries_there(registry, full, theirs, number, Path(scratch)),
            lambda number: entries_here(layout.blob(ours.layers[number]), ours, number),
        )
    return Reproduction(cell.id, theirs.digest, ours.digest, difference)


def read_published(registry: Registry, repository: str, reference: str, name: str) -> Published:
    """Read the manifest and config of an image; raise RegistryError if it is not there."""
    try:
        data = image_manifest(registry, repository, reference)
        manifest = read_document(ImageManifest, data)
        config_bytes = get_content(registry, repository, "blobs", manifest.config.digest)
        config = read_document(ConfigDocument, config_bytes)
    except Gone as error:
        raise RegistryError(f"{registry.address} does not have {name}: {error}") from error
    except UnreadableError as error:
        raise RegistryError(
            f"{registry.address.reference(name)} is not an image: {error}"
        ) from error
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        raise RegistryError(f"{registry.address.reference(name)}: config and manifest disagree")
    return Published(digest_of(data), json.loads(data), json.loads(config_bytes))


def _cell(image: Published, plan: Plan, name: str) -> Cell:
    label = read_document(ConfigDocument, json.dumps(image.config)).label(CELL_LABEL)
    if label is None:
        raise InspectError(f"{name} was not made by wheelyard: it has no label {CELL_LABEL}")
    try:
        wanted = read_document(CellLabel, label).id
    except UnreadableError as error:
        raise InspectError(f"{name}: its label {CELL_LABEL} is not wheelyard's: {error}") from error
    for cell in plan.cells:
        if cell.id == wanted:
            return cell
    raise SelectionError(
        f"{name} is {wanted}, which is not (or no longer) in this project; check out the "
        "revision that "
        "its provenance names"
    )


@contextmanager
def own_cache(context: Context, folder: Path) -> Iterator[Context]:
    """Yield a cache that has the fetched files, and no layers."""
    folder.mkdir()
    for part in _FETCHED:
        source = context.settings.cache_dir / part
        if source.is_dir():
            (folder / part).symlink_to(source.absolute())
    yield Context(replace(context.settings, cache_dir=folder), context.reporter)


def _lazily(layout: Layout, built: Built, context: Context) -> Published:
    """Return our image as eStargz, which is a function of its layers."""
    publication = Publication(built.cell.id, built.image.manifest.digest, built.cell.tags)
    with repacked_images(PublicationSource(layout, (publication,)), ESTARGZ, context) as packed:
        if packed.failed:
            raise packed.failed[0].error
        return in_layout(packed.layout, packed.images[0].manifest)


def entries_there(
    registry: Registry, repository: str, image: Published, number: int, scratch: Path
) -> Sequence[Entry]:
    """Fetch one layer, resumed and checked, and list its entries."""
    layer = image.manifest["layers"][number]
    blob = fetch_blob(registry, repository, layer["digest"], layer["size"], scratch / "theirs")
    return entries_here(blob, image, number)


def entries_here(blob: Path, image: Published, number: int) -> Sequence[Entry]:
    """List the entries of one layer, whose blob is a file."""
    return reindex(blob, image.layers[number], image.diff_ids[number], lambda _: None)
