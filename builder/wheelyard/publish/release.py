"""Images into a registry with all that belongs to them: signatures, documents, the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wheelyard.errors import RegistryError, SignatureError, WheelyardError
from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.build.report import read_report
from wheelyard.planning.catalogue import plan_entries
from wheelyard.publish.attest.publish import attach_all
from wheelyard.publish.attest.signatures import sign_image
from wheelyard.publish.attest.trust import FOLDER, Trust
from wheelyard.publish.catalogue import NAME, Signer, publish_catalogue
from wheelyard.registry.push import NotPushed, Pushed, push_images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wheelyard.context import Context
    from wheelyard.model import Cell, Plan
    from wheelyard.planning.catalogue import CatalogueEntry
    from wheelyard.planning.facts import Upstream
    from wheelyard.publish.attest.keys import PrivateKey, PublicKey
    from wheelyard.publish.published import Source
    from wheelyard.registry.client import Registry


@dataclass(frozen=True, slots=True)
class Belongings:
    """What an image is published with."""

    key: PrivateKey | None = None  # that signs images, documents and the catalogue
    older: tuple[PublicKey, ...] = ()  # whose catalogue is gone on from, too
    attest: bool = True  # SBOM, provenance, verification
    compare: bool = True  # what is installed with today's locks, which made some images just now


def release(
    registry: Registry,
    source: Source,
    plan: Plan,
    upstream: Upstream,
    belongings: Belongings,
    context: Context,
) -> list[Pushed | NotPushed]:
    """Push every image of the source; what became of each, and of the catalogue if it failed.

    A failure stops no other image. One that cannot be signed does not get into the catalogue.
    """
    layout, key = source.layout, belongings.key
    siblings = sorted({cell.repository for cell in plan.cells})
    notes = context.settings.cache_dir / "uploads"
    results: list[Pushed | NotPushed] = [*source.failed]
    results += push_images(registry, layout, source.images, siblings, notes, source.supply)
    if key is not None:
        results = [_signed(registry, result, key) for result in results]
    pushed = {result.id for result in results if isinstance(result, Pushed)}
    if pushed:
        cells = [cell for cell in plan.cells if cell.id in pushed]
        if belongings.attest:
            _attach(registry, cells, plan, source, belongings, context)
        entries = plan_entries(cells, upstream, read_report(layout.folder))
        results += _list(registry, entries, _signer(belongings, context))
    return results


def _attach(
    registry: Registry,
    cells: Sequence[Cell],
    plan: Plan,
    source: Source,
    belongings: Belongings,
    context: Context,
) -> None:
    """Attach documents to the images, signed if there is a key; one without is warned about."""
    store = LayerStore(context.settings.cache_dir) if belongings.compare else None
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
            attach_all(registry, cell, plan, project, *report, belongings.key)
        except WheelyardError as error:
            context.reporter.warn(f"nothing is attached to the image: {error}")


def _signed(registry: Registry, result: Pushed | NotPushed, key: PrivateKey) -> Pushed | NotPushed:
    """Sign a pushed image."""
    if isinstance(result, NotPushed):
        return result
    name = result.references[0].rpartition("/")[2].partition(":")[0]
    try:
        new = sign_image(registry, name, result.digest, key)
    except RegistryError as error:
        registry.reporter.warn(f"{result.id} is there, and not signed: {error}")
        return NotPushed(result.id, error)
    registry.reporter.info(f"{result.id}: {'signed' if new else 'is signed by this key already'}")
    return result


def _signer(belongings: Belongings, context: Context) -> Signer | None:
    if belongings.key is None:
        return None
    keys = belongings.key.public_key(), *belongings.older
    return Signer(belongings.key, Trust(keys, context.settings.cache_dir / FOLDER))


def _list(
    registry: Registry, entries: Sequence[CatalogueEntry], signer: Signer | None
) -> list[Pushed | NotPushed]:
    """Put the images into the registry's catalogue; what went wrong with that."""
    try:
        publish_catalogue(registry, entries, signer)
    except (RegistryError, SignatureError) as error:
        registry.reporter.warn(f"the images are there, and not in the catalogue: {error}")
        return [NotPushed(NAME, error)]
    return []
