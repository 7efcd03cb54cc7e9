"""Signatures where cosign keeps them: under a tag made of the image's digest, or as referrers.

We write tags. Referrers are read: cosign's OCI 1.1 mode, and the bundles of cosign 3. Sources:
cosign's SIGNATURE_SPEC.md, ATTESTATION_SPEC.md and BUNDLE_SPEC.md; sigstore's bundle v0.3.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wheelyard.errors import RegistryError
from wheelyard.fetching.replies import Gone
from wheelyard.oci.documents import (
    BlobDescriptor,
    UnreadableError,
    is_digest,
)
from wheelyard.oci.layout import CONFIG_TYPE, MANIFEST_TYPE, canonical
from wheelyard.publish.attest.envelope import MEDIA_TYPE as ENVELOPE
from wheelyard.publish.attest.signing import Signature
from wheelyard.registry.artifact import EMPTY_TYPE, put_blob
from wheelyard.registry.client import Registry, get_content, get_manifest, put_manifest
from wheelyard.registry.referrers import referrers

TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
VALUE = "dev.cosignproject.cosign/signature"
_PREDICATE = "predicateType"
_LARGEST = 16 << 20  # bytes; a signature has some hundred, a bill of materials many thousand
_SIGNATURES = "application/vnd.dev.cosign.artifact.sig.v1+json"
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
# Registries before OCI 1.1 state the config's type, which is the empty one for bundles.
_LOOKED_INTO = {_SIGNATURES, _BUNDLE, EMPTY_TYPE}
_LARGEST_ATTACHED = 1 << 20  # bytes


def signature_tag(digest: str) -> str:
    """Return the tag of an image's signatures."""
    return f"{digest.replace(':', '-', 1)}.sig"


def attestation_tag(digest: str) -> str:
    """Return the tag of the signed statements about an image."""
    return f"{digest.replace(':', '-', 1)}.att"


def fetch_signatures(registry: Registry, repository: str, digest: str) -> tuple[Signature, ...]:
    """Return every signature under an image's signature tag; raise RegistryError."""
    tag = signature_tag(digest)
    contents = _contents(registry, repository, tag, TYPE)
    return tuple(
        Signature(data, layer.annotation(VALUE))
        for layer, data in contents
        if layer.annotation(VALUE)
    )


def fetch_attestations(registry: Registry, repository: str, digest: str) -> tuple[bytes, ...]:
    """Return every signed statement about an image, as an envelope; raise RegistryError."""
    tag = attestation_tag(digest)
    return tuple(data for _, data in _contents(registry, repository, tag, ENVELOPE))


def add_signature(registry: Registry, repository: str, digest: str, signature: Signature) -> None:
    """Publish a signature beside the existing ones."""
    layer = put_blob(registry, repository, signature.payload)
    new = layer | {"mediaType": TYPE, "annotations": {VALUE: signature.value}}
    _add(registry, repository, signature_tag(digest), [new])


def add_attestations(
    registry: Registry, repository: str, digest: str, envelopes: Mapping[str, bytes]
) -> None:
    """Publish envelopes (by their predicate types) beside the existing ones."""
    new = [
        put_blob(registry, repository, data)
        | {"mediaType": ENVELOPE, "annotations": {VALUE: "", _PREDICATE: kind}}
        for kind, data in envelopes.items()
    ]
    _add(registry, repository, attestation_tag(digest), new)


def _contents(
    registry: Registry, repository: str, tag: str, media_type: str
) -> Iterator[tuple[BlobDescriptor, bytes]]:
    """Return a tag's layers of one type, with their content."""
    try:
        for layer in _layers(registry, repository, tag):
            if layer.media_type == media_type and layer.size <= _LARGEST:
                yield layer, get_content(registry, repository, "blobs", layer.digest)
    except Gone as error:
        raise RegistryError(
            f"{registry.address}: {repository}:{tag} names a missing signature; sign "
            "the image again"
        ) from error


def _add(registry: Registry, repository: str, tag: str, new: Sequence[dict[str, Any]]) -> None:
    found = _layers(registry, repository, tag)
    there = [layer.model_dump(by_alias=True, exclude_unset=True) for layer in found]
    layers = [*there, *new]
    diff_ids = [str(one["digest"]) for one in layers]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    content = canonical({"architecture": "", "os": "", "config": {}, "rootfs": rootfs})
    config = put_blob(registry, repository, content) | {"mediaType": CONFIG_TYPE}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config,
        "layers": layers,
    }
    put_manifest(registry, repository, tag, canonical(manifest), MANIFEST_TYPE)


def _layers(registry: Registry, repository: str, tag: str) -> tuple[BlobDescriptor, ...]:
    try:
        return get_manifest(registry, repository, tag).layers
    except Gone:
        return ()
    except UnreadableError as error:
        raise RegistryError(
            f"{registry.address.host}/{repository}:{tag} does not hold signatures as cosign stores "
            "them; remove that tag"
        ) from error


def referred_signatures(
    registry: Registry, repository: str, digest: str
) -> tuple[tuple[Signature, ...], tuple[Any, ...]]:
    """Return what is attached to an image: simple signatures, and envelopes of bundles."""
    signatures: list[Signature] = []
    envelopes: list[Any] = []
    try:
        for layer in _attached(registry, repository, digest):
            if layer.media_type not in (TYPE, _BUNDLE) or layer.size > _LARGEST_ATTACHED:
                continue
            content = get_content(registry, repository, "blobs", layer.digest)
            if layer.media_type == _BUNDLE:
                envelopes.append(json.loads(content).get("dsseEnvelope"))
            else:
                signatures.append(Signature(content, layer.annotation(VALUE)))
    except (Gone, ValueError, AttributeError, RecursionError) as error:
        raise RegistryError(
            f"{registry.address}: {repository}@{digest}: a signature attached to it cannot be "
            f"read ({error}); sign the image again"
        ) from error
    return tuple(signatures), tuple(envelopes)


def _attached(registry: Registry, repository: str, digest: str) -> Iterator[BlobDescriptor]:
    for entry in referrers(registry, repository, digest):
        if entry.get("artifactType") in _LOOKED_INTO and is_digest(entry["digest"]):
            yield from get_manifest(registry, repository, str(entry["digest"])).layers
