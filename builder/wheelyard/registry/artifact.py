"""Small artifacts in a registry: one blob under a manifest that says what it is.

Source: OCI image-spec 1.1, "Guidelines for Artifact Usage".
"""

from __future__ import annotations

from typing import Any

from wheelyard.errors import RegistryError
from wheelyard.fetching.replies import Refused
from wheelyard.oci.layout import MANIFEST_TYPE, canonical, digest_of
from wheelyard.registry.client import Registry, ask, has_blob
from wheelyard.registry.upload import upload_location

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_EMPTY = b"{}"


def put_artifact_blobs(
    registry: Registry, repository: str, media_type: str, content: bytes, **more: Any
) -> bytes:
    """Store `content`; return the manifest that must still be put; `more` goes into it."""
    layer = put_blob(registry, repository, content) | {"mediaType": media_type}
    config = put_blob(registry, repository, _EMPTY) | {"mediaType": EMPTY_TYPE}
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": media_type,
            "config": config,
            "layers": [layer],
            **more,
        }
    )


def put_blob(registry: Registry, repository: str, data: bytes) -> dict[str, Any]:
    """Store a blob of a few kilobytes in one request; return its descriptor without the type."""
    digest = digest_of(data)
    if not has_blob(registry, repository, digest, len(data)):
        begun = ask(registry, "POST", registry.url(repository, "blobs/uploads/"), ok=(202,))
        try:
            url = upload_location(begun).copy_merge_params({"digest": digest})
        except Refused as error:
            raise RegistryError(f"{registry.address}: {repository}: {error}") from error
        headers = {"Content-Type": "application/octet-stream"}
        ask(registry, "PUT", url, ok=(201,), headers=headers, content=data)
    return {"digest": digest, "size": len(data)}
