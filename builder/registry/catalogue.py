"""The catalogue beside the images: an OCI artifact, so that `pick` needs no repository.

Source: OCI image-spec 1.1, "Guidelines for Artifact Usage".
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.assemble.layout import MANIFEST_TYPE
from builder.errors import RegistryError
from builder.fetching.replies import Gone
from builder.publishing.catalogue import Entry, from_json, merge, to_json
from builder.registry.artifact import canonical, put_artifact_blobs
from builder.registry.client import get_content, put_manifest

if TYPE_CHECKING:
    from builder.registry.client import Registry

NAME = "catalogue"
TAG = "latest"
TYPE = "application/vnd.wheelyard.catalogue.v1+json"
ATTEMPTS = 8
SETTLED = 0.3  # seconds in which a push that has read the catalogue has written it


def fetch_catalogue(registry: Registry) -> tuple[Entry, ...] | None:
    """The catalogue below the prefix; None where there is none. Raises RegistryError."""
    repository = registry.address.repository(NAME)
    try:
        manifest = json.loads(get_content(registry, repository, "manifests", TAG, MANIFEST_TYPE))
        digest = str(manifest["layers"][0]["digest"])
        content = json.loads(get_content(registry, repository, "blobs", digest))
    except Gone:
        return None
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise RegistryError(
            f"{registry.address.reference(NAME)}: this is no catalogue of wheelyard's"
        ) from error
    return from_json(content)


def publish_catalogue(registry: Registry, entries: Sequence[Entry]) -> None:
    """Add entries to the catalogue. Its tag moves last, as with images, and only if need be.

    A registry cannot move a tag only where it still is what somebody has read. So another push
    that read before this one wrote may drop the entries; they are looked for a moment later, and
    those that are gone put there again. Raises RegistryError where others drop them every time.
    """
    missing = list(entries)
    for attempt in range(ATTEMPTS):
        there = fetch_catalogue(registry) or ()
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


def _replace(registry: Registry, listed: Sequence[Entry]) -> None:
    repository = registry.address.repository(NAME)
    data = put_artifact_blobs(registry, repository, TYPE, canonical(to_json(listed)))
    put_manifest(registry, repository, TAG, data, MANIFEST_TYPE)
