"""The catalogue beside the images: an OCI artifact, so that `pick` needs no repository.

It is signed as images are, under its own name. A signed catalogue has a counter that rises with
every change; one that is older than a previously seen one is refused, so replaced images cannot be
brought back.

Source: OCI image-spec 1.1, "Guidelines for Artifact Usage".
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wheelyard.errors import RegistryError, SignatureError
from wheelyard.fetching.replies import Gone
from wheelyard.oci.documents import ImageManifest, UnreadableError, read_document
from wheelyard.oci.layout import MANIFEST_TYPE, canonical, digest_of
from wheelyard.planning.catalogue import Catalogue, CatalogueEntry, merge, read_catalogue, to_json
from wheelyard.publish.attest.cosign import fetch_signatures
from wheelyard.publish.attest.signatures import require_signed, sign_image
from wheelyard.publish.attest.trust import Trust, newest_seen, remember, require_newest
from wheelyard.registry.artifact import put_artifact_blobs
from wheelyard.registry.client import Registry, get_content, put_manifest
from wheelyard.registry.indexes import settle

if TYPE_CHECKING:
    from wheelyard.publish.attest.keys import PrivateKey

NAME = "catalogue"
TAG = "latest"
TYPE = "application/vnd.wheelyard.catalogue.v1+json"
_ATTEMPTS = 8
_NAMED = 5  # faults of one catalogue that are reported
_ADVICE = "if that name is not used otherwise, remove the tag, and run `wheelyard push` again"


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs the catalogue, and whose earlier catalogues are accepted."""

    key: PrivateKey
    trust: Trust  # the key's own public half among the keys


@dataclass(frozen=True, slots=True)
class _Found:
    """The existing catalogue, and the digest that its signatures cover."""

    catalogue: Catalogue
    digest: str


def fetch_catalogue(
    registry: Registry, trust: Trust | None = None
) -> tuple[CatalogueEntry, ...] | None:
    """Return the catalogue below the prefix; None if there is none.

    Raises RegistryError; with `trust`, SignatureError for one that is not signed, or is older than
    one seen before.
    """
    try:
        published = _fetch(registry, trust)
    except UnreadableError as error:
        raise RegistryError(f"{_where(registry)}: {error}; {_ADVICE}") from error
    if trust is not None:
        name = trust.name(registry.address, NAME)
        require_newest(trust, name, published.catalogue.counter if published else 0)
    if published is None:
        return None
    if trust is not None:
        remember(trust, name, published.catalogue.counter, registry.reporter)
    _warn(registry, published.catalogue, "it is ignored; the next push leaves it out")
    return published.catalogue.entries


def require_catalogue(registry: Registry, trust: Trust | None) -> tuple[CatalogueEntry, ...]:
    """Return the catalogue below the prefix; raise as `fetch_catalogue`, and if there is none."""
    entries = fetch_catalogue(registry, trust)
    if entries is None:
        raise RegistryError(
            f"{registry.address} has no catalogue, so no images of a set: publish them there "
            "(`wheelyard push`), or leave out --registry to take the images of the matrix"
        )
    return entries


def _fetch(registry: Registry, trust: Trust | None) -> _Found | None:
    """Fetch the catalogue; raise UnreadableError for a blob that is not one."""
    repository = registry.address.repository(NAME)
    try:
        data = get_content(registry, repository, "manifests", TAG, MANIFEST_TYPE)
    except Gone:
        return None
    digest = digest_of(data)
    if trust is not None:
        require_signed(registry, NAME, digest, trust)
    try:
        layers = read_document(ImageManifest, data).layers
    except UnreadableError as error:
        raise RegistryError(f"{_where(registry)} is not an artifact: {error}; {_ADVICE}") from error
    if len(layers) != 1 or layers[0].media_type != TYPE:
        raise RegistryError(f"{_where(registry)} is not a catalogue of wheelyard; {_ADVICE}")
    try:
        content = get_content(registry, repository, "blobs", layers[0].digest)
    except Gone:
        return None
    return _Found(read_catalogue(content), digest)


def _where(registry: Registry) -> str:
    return f"{registry.address.reference(NAME)}:{TAG}"


def _warn(registry: Registry, catalogue: Catalogue, what: str) -> None:
    for fault in catalogue.faults[:_NAMED]:
        registry.reporter.warn(f"{_where(registry)}: {fault}: {what}")
    if len(catalogue.faults) > _NAMED:
        registry.reporter.warn(
            f"{_where(registry)}: {len(catalogue.faults) - _NAMED} more like this"
        )


def publish_catalogue(
    registry: Registry, entries: Sequence[CatalogueEntry], signer: Signer | None = None
) -> None:
    """Add entries to the catalogue. Its tag moves last, as with images, and only if needed.

    A registry cannot make moving a tag conditional on its present target. So another push that read
    before this one wrote may drop the entries; they are checked a moment later and added again if
    they are gone. Raises RegistryError if others drop them every time, and without a `signer` if
    the catalogue is signed; SignatureError if it was reset to an older one.
    """
    missing, highest = list(entries), 0
    if signer is not None:
        highest = newest_seen(signer.trust, registry.address.reference(NAME))
    for attempt in range(_ATTEMPTS):
        started = time.monotonic()
        there = _current(registry, signer)
        if signer is not None and there is not None and not attempt:
            require_newest(signer.trust, registry.address.reference(NAME), there.counter)
        old = there or Catalogue()
        if attempt:  # an entry that another push has replaced is that push's concern
            missing = [entry for entry in entries if entry.id not in {x.id for x in old.entries}]
        listed = merge(old.entries, missing)
        whole = there is not None and not there.faults and old.counter >= highest
        if whole and listed == old.entries:
            if signer is not None:
                remember(
                    signer.trust, registry.address.reference(NAME), old.counter, registry.reporter
                )
            return
        # From the clock, so that a machine without history does not count from 1 again.
        highest = 0 if signer is None else max(highest + 1, old.counter + 1, int(time.time()))
        _replace(registry, Catalogue(listed, highest), signer)
        settle(started, attempt)
    raise RegistryError(
        f"{registry.address.reference(NAME)}: other pushes keep replacing the catalogue; "
        "push again when they are done"
    )


def _current(registry: Registry, signer: Signer | None) -> Catalogue | None:
    """Return what others have listed; unreadable entries are left out, so they stop no push.

    Nothing is signed that was not signed before: anyone who may write to the registry could have
    listed it. None if there is no catalogue to continue.
    """
    try:
        published = _fetch(registry, None if signer is None else signer.trust)
    except UnreadableError as error:
        registry.reporter.warn(
            f"{_where(registry)} is replaced, because it cannot be read: {error}"
        )
        return None
    except SignatureError as error:
        _warn_unsigned(registry, error)
        return None
    if published is None:
        if signer is not None and newest_seen(signer.trust, registry.address.reference(NAME)):
            registry.reporter.warn(
                f"{_where(registry)} no longer exists: other images are listed again when "
                "they are pushed"
            )
        return None
    if signer is None and fetch_signatures(
        registry, registry.address.repository(NAME), published.digest
    ):
        raise RegistryError(
            f"{_where(registry)} is signed and would lose its signature: push with "
            "--sign-key. To go "
            "on without signatures, remove that tag"
        )
    _warn(registry, published.catalogue, "left out of the new one")
    return published.catalogue


def _warn_unsigned(registry: Registry, error: SignatureError) -> None:
    """Name the entries that a signed catalogue does not take from an unsigned one."""
    try:
        unsigned = _fetch(registry, None)
    except (UnreadableError, RegistryError):
        unsigned = None
    ids = [entry.id for entry in unsigned.catalogue.entries] if unsigned else []
    if ids:
        registry.reporter.warn(
            f"{_where(registry)} is not signed by this key, so nothing of it is signed now: "
            f"{len(ids)} images are listed again when they are pushed with --sign-key "
            f"({', '.join(ids[:_NAMED])}{', ...' if len(ids) > _NAMED else ''}). To continue "
            f"the catalogue of an older key, pass that key with --verify-key. ({error})"
        )


def _replace(registry: Registry, catalogue: Catalogue, signer: Signer | None) -> None:
    """Store the catalogue and sign it before its tag moves, so that it is never seen unsigned."""
    repository = registry.address.repository(NAME)
    content = canonical(to_json(catalogue.entries, catalogue.counter))
    data = put_artifact_blobs(registry, repository, TYPE, content)
    if signer is not None:
        digest = digest_of(data)
        put_manifest(registry, repository, digest, data, MANIFEST_TYPE)
        sign_image(registry, NAME, digest, signer.key)
    put_manifest(registry, repository, TAG, data, MANIFEST_TYPE)
