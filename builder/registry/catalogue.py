"""The catalogue beside the images: an OCI artifact, so that `pick` needs no repository.

Source: OCI image-spec 1.1, "Guidelines for Artifact Usage".
"""

from __future__ import annotations

import json
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
    """Add entries to the catalogue. Its tag moves last, as with images, and only if need be."""
    repository = registry.address.repository(NAME)
    there = fetch_catalogue(registry)
    listed = merge(there or (), entries)
    if listed != there:
        data = put_artifact_blobs(registry, repository, TYPE, canonical(to_json(listed)))
        put_manifest(registry, repository, TAG, data, MANIFEST_TYPE)
