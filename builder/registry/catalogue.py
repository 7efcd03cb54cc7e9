"""The catalogue beside the images: an OCI artifact, so that `pick` needs no repository.

Source: OCI image-spec 1.1, "Guidelines for Artifact Usage".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import httpx

from builder.assemble.layout import MANIFEST_TYPE
from builder.catalogue import Entry, from_json, merge, to_json
from builder.errors import RegistryError
from builder.registry.client import ask, digest_of, get_content, has_blob, put_manifest
from builder.replies import Gone

if TYPE_CHECKING:
    from builder.registry.client import Registry

NAME = "catalogue"
TAG = "latest"
TYPE = "application/vnd.wheelyard.catalogue.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"


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


def publish_catalogue(registry: Registry, entries: Sequence[Entry]) -> str:
    """Add entries to the catalogue; its digest. The tag moves last, as with images."""
    repository = registry.address.repository(NAME)
    listed = merge(fetch_catalogue(registry) or (), entries)
    content = json.dumps(to_json(listed), sort_keys=True, separators=(",", ":")).encode()
    layer = _put_blob(registry, repository, content) | {"mediaType": TYPE}
    config = _put_blob(registry, repository, EMPTY) | {"mediaType": EMPTY_TYPE}
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": TYPE,
        "config": config,
        "layers": [layer],
    }
    data = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    put_manifest(registry, repository, TAG, data, MANIFEST_TYPE)
    return digest_of(data)


def _put_blob(registry: Registry, repository: str, data: bytes) -> dict[str, Any]:
    """A blob of a few kilobytes, in one request; its descriptor without the type."""
    digest = digest_of(data)
    if not has_blob(registry, repository, digest, len(data)):
        begun = ask(registry, "POST", registry.url(repository, "blobs/uploads/"), ok=(202,))
        location = begun.request.url.join(begun.headers["Location"])
        url = httpx.URL(location).copy_merge_params({"digest": digest})
        headers = {"Content-Type": "application/octet-stream"}
        ask(registry, "PUT", url, ok=(201,), headers=headers, content=data)
    return {"digest": digest, "size": len(data)}
