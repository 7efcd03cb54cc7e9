"""Pushes images with everything that belongs to them: signatures, documents, the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wheelyard.errors import RegistryError, SignatureError, WheelyardError
from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.build.report import read_report
from wheelyard.planning.catalogue import CatalogueEntry, plan_entries
from wheelyard.publish.attest.publish import attach_all
from wheelyard.publish.attest.signatures import sign_image
from wheelyard.publish.attest.trust import FOLDER, Trust
from wheelyard.publish.catalogue import NAME, Signer, publish_catalogue
from wheelyard.registry.push import NotPushed, Pushed, push_images

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.model import Cell, Plan
    from wheelyard.planning.facts import Upstream
    from wheelyard.publish.attest.keys import PrivateKey, PublicKey
    from wheelyard.publish.published import PublicationSource
    from wheelyard.registry.client import Registry


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """How images are published: keys and documents."""

    key: PrivateKey | None = None  # that signs images, documents and the catalogue
    older: tuple[PublicKey, ...] = ()  # whose catalogues are accepted, too
    attest: bool = True  # SBOM, provenance, verification
    compare: bool = True  # with the locks; not needed for images just made


def release(
    registry: Registry,
    source: PublicationSource,
    plan: Plan,
    upstream: Upstream,
    options: PublishOptions,
    context: Context,
) -> list[Pushed | NotPushed]:
    """Push every image of the source; return the results, and the catalogue's if it failed.

    One failure does not stop the others. An image that cannot be signed is not added to the
    catalogue.
    """
    layout, key = source.layout, options.key
    siblings = sorted({cell.repository for cell in plan.cells})
    notes = context.settings.cache_dir / "uploads"
    results: list[Pushed | NotPushed] = [*source.failed]
    results += push_images(registry, layout, source.images, siblings, notes, source.supply)
    if key is not None:
        results = [_signed(registry, result, key) for result in results]
    pushed = {result.id for result in results if isinstance(result, Pushed)}
    if pushed:
        cells = [cell for cell in plan.cells if cell.id in pushed]
        if options.attest:
            _attach(registry, cells, plan, source, options, context)
        entries = plan_entries(cells, upstream, read_report(layout.folder))
        results += _list(registry, entries, _signer(options, context))
    return results


def _attach(
    registry: Registry,
    cells: Sequence[Cell],
    plan: Plan,
    source: PublicationSource,
    options: PublishOptions,
    context: Context,
) -> None:
    """Attach documents to the images, signed if there is a key; warn about failures."""
    store = LayerStore(context.settings.cache_dir) if options.compare else None
    project = context.settings.project
    layout, origin = source.layout, source.origin or source.layout
    built = {image["id"]: image for image in read_report(layout.folder)}
    made = {image["id"]: image for image in read_report(origin.folder)}
    for cell in cells:
        if cell.id not in built:  # pushed with --unverified: nothing is known about it
            continue
        size = layout.blob(built[cell.id]["digest"]).stat().st_size
        try:
            report = built[cell.id], size, store, made[cell.id]
            attach_all(registry, cell, plan, project, *report, options.key)
        except WheelyardError as error:
            context.reporter.warn(f"no documents were attached to the image: {error}")


def _signed(registry: Registry, result: Pushed | NotPushed, key: PrivateKey) -> Pushed | NotPushed:
    """Sign a pushed image; return the error if that fails."""
    if isinstance(result, NotPushed):
        return result
    name = result.references[0].rpartition("/")[2].partition(":")[0]
    try:
        new = sign_image(registry, name, result.digest, key)
        if result.index is not None:  # what cosign finds behind a shared tag
            sign_image(registry, name, result.index, key)
    except RegistryError as error:
        registry.reporter.warn(f"{result.id} was pushed, but not signed: {error}")
        return NotPushed(result.id, error)
    registry.reporter.info(f"{result.id}: {'signed' if new else 'already signed by this key'}")
    return result


def _signer(options: PublishOptions, context: Context) -> Signer | None:
    if options.key is None:
        return None
    keys = options.key.public_key(), *options.older
    return Signer(options.key, Trust(keys, context.settings.cache_dir / FOLDER))


def _list(
    registry: Registry, entries: Sequence[CatalogueEntry], signer: Signer | None
) -> list[Pushed | NotPushed]:
    """Add the images to the registry's catalogue; return the error if that fails."""
    try:
        publish_catalogue(registry, entries, signer)
    except (RegistryError, SignatureError) as error:
        registry.reporter.warn(f"the images were pushed, but not added to the catalogue: {error}")
        return [NotPushed(NAME, error)]
    return []
