"""The catalogue beside the images: an OCI artifact, so that `pick` needs no repository.

Source: OCI image-spec 1.1, "Guidelines for Artifact Usage".
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.assemble.layout import MANIFEST_TYPE
from builder.errors import RegistryError
from builder.fetching.replies import Gone
from builder.publishing.catalogue import Catalogue, Entry, merge, read_catalogue, to_json
from builder.registry.artifact import canonical, put_artifact_blobs
from builder.registry.client import get_content, put_manifest
from builder.system.documents import ImageManifest, UnreadableError, read_document

if TYPE_CHECKING:
    from builder.registry.client import Registry

NAME = "catalogue"
TAG = "latest"
TYPE = "application/vnd.wheelyard.catalogue.v1+json"
ATTEMPTS = 8
_NAMED = 5  # faults of one catalogue that are told
ADVICE = "if nobody else uses that name, remove the tag, and `wheelyard push` again"
SETTLED = 0.3  # seconds in which a push that has read the catalogue has written it


def fetch_catalogue(registry: Registry) -> tuple[Entry, ...] | None:
    """The catalogue below the prefix; None where there is none. Raises RegistryError."""
    try:
        found = _fetch(registry)
    except UnreadableError as error:
        raise RegistryError(f"{_where(registry)}: {error}; {ADVICE}") from error
    if found is None:
        return None
    _warn(registry, found, "it is passed over; the next push leaves it out")
    return found.entries


def _fetch(registry: Registry) -> Catalogue | None:
    """The same with all that is told; raises UnreadableError for a blob that is no catalogue."""
    repository = registry.address.repository(NAME)
    try:
        data = get_content(registry, repository, "manifests", TAG, MANIFEST_TYPE)
        layers = read_document(ImageManifest, data).layers
    except Gone:
        return None
    except UnreadableError as error:
        raise RegistryError(f"{_where(registry)} is no artifact: {error}; {ADVICE}") from error
    if len(layers) != 1 or layers[0].media_type != TYPE:
        raise RegistryError(f"{_where(registry)} is no catalogue of wheelyard's; {ADVICE}")
    try:
        return read_catalogue(get_content(registry, repository, "blobs", layers[0].digest))
    except Gone:
        return None


def _where(registry: Registry) -> str:
    return f"{registry.address.reference(NAME)}:{TAG}"


def _warn(registry: Registry, found: Catalogue, what: str) -> None:
    for fault in found.faults[:_NAMED]:
        registry.reporter.warn(f"{_where(registry)}: {fault}: {what}")
    if len(found.faults) > _NAMED:
        registry.reporter.warn(f"{_where(registry)}: {len(found.faults) - _NAMED} more like this")


def publish_catalogue(registry: Registry, entries: Sequence[Entry]) -> None:
    """Add entries to the catalogue. Its tag moves last, as with images, and only if need be.

    A registry cannot move a tag only where it still is what somebody has read. So another push
    that read before this one wrote may drop the entries; they are looked for a moment later, and
    those that are gone put there again. Raises RegistryError where others drop them every time.
    """
    missing = list(entries)
    for attempt in range(ATTEMPTS):
        there = _current(registry)
        if attempt:  # an entry that another push has replaced is its business
            missing = [entry for entry in entries if entry.id not in {x.id for x in there}]
        listed = merge(there, missing)
        if listed == there:
            return
        _replace(registry, listed)
        time.sleep(SETTLED * random.uniform(1, 1 + attempt))  # noqa: S311  (parts two pushes)
    raise RegistryError(
        f"{registry.address.reference(NAME)}: other pushes replace the catalogue all the time; "
        "push again when they are done"
    )


def _current(registry: Registry) -> tuple[Entry, ...]:
    """What is listed by others; what nobody can read is left out, so that it stops no push."""
    try:
        found = _fetch(registry)
    except UnreadableError as error:
        registry.reporter.warn(f"{_where(registry)} is replaced, because nobody reads it: {error}")
        return ()
    if found is None:
        return ()
    _warn(registry, found, "left out of the new one")
    return found.entries


def _replace(registry: Registry, listed: Sequence[Entry]) -> None:
    repository = registry.address.repository(NAME)
    data = put_artifact_blobs(registry, repository, TYPE, canonical(to_json(listed)))
    put_manifest(registry, repository, TAG, data, MANIFEST_TYPE)
