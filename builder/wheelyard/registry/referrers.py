"""Documents attached to an image: found by its digest, without a tag that could move.

Source: OCI distribution-spec 1.1, "Listing Referrers" and, for registries that do not support it,
"Referrers Tag Schema".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wheelyard.errors import RegistryError
from wheelyard.fetching.replies import Gone
from wheelyard.oci.documents import Index, UnreadableError, read_document
from wheelyard.oci.layout import INDEX_TYPE, MANIFEST_TYPE, Descriptor, canonical, digest_of
from wheelyard.registry.artifact import put_artifact_blobs
from wheelyard.registry.client import MANIFEST_LIMIT, Registry, ask, get_content, put_manifest

PREDICATE = "in-toto.io/predicate-type"


def attach(
    registry: Registry,
    repository: str,
    subject: Descriptor,
    media_type: str,
    content: bytes,
    annotations: Mapping[str, str],
) -> str:
    """Attach a document to the manifest `subject`; return its digest. Repeating changes nothing."""
    data = put_artifact_blobs(
        registry,
        repository,
        media_type,
        content,
        subject=subject.as_json(),
        annotations=dict(annotations),
    )
    digest = digest_of(data)
    put_manifest(registry, repository, digest, data, MANIFEST_TYPE)
    if _by_api(registry, repository, subject.digest) is None:
        entry = Descriptor(MANIFEST_TYPE, digest, len(data)).as_json()
        told = {"artifactType": media_type, "annotations": dict(annotations)}
        _list_by_tag(registry, repository, subject.digest, entry | told)
    return digest


def referrers(registry: Registry, repository: str, digest: str) -> list[dict[str, Any]]:
    """Return the descriptors of all attachments of a manifest."""
    listed = _by_api(registry, repository, digest)
    return _by_tag(registry, repository, digest) if listed is None else listed


def _by_api(registry: Registry, repository: str, digest: str) -> list[dict[str, Any]] | None:
    """List referrers by the API; None if the registry does not support it."""
    url = registry.url(repository, f"referrers/{digest}")
    try:
        response = ask(
            registry, "GET", url, ok=(200,), headers={"Accept": INDEX_TYPE}, limit=MANIFEST_LIMIT
        )
    except Gone:
        return None
    return _manifests(response.content, registry)


def _by_tag(registry: Registry, repository: str, digest: str) -> list[dict[str, Any]]:
    try:
        content = get_content(registry, repository, "manifests", _tag(digest), INDEX_TYPE)
    except Gone:
        return []
    return _manifests(content, registry)


def _list_by_tag(registry: Registry, repository: str, digest: str, entry: dict[str, Any]) -> None:
    listed = _by_tag(registry, repository, digest)
    if any(other["digest"] == entry["digest"] for other in listed):
        return
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [*listed, entry]}
    put_manifest(registry, repository, _tag(digest), canonical(index), INDEX_TYPE)


def _tag(digest: str) -> str:
    return digest.replace(":", "-", 1)


def _manifests(content: bytes, registry: Registry) -> list[dict[str, Any]]:
    try:
        listed = read_document(Index, content).manifests
    except UnreadableError as error:
        raise RegistryError(
            f"{registry.address}: the list of referrers is not an OCI index: {error}"
        ) from error
    return [entry.model_dump(by_alias=True, exclude_unset=True) for entry in listed]
