"""Signatures that cosign attached as referrers: its OCI 1.1 mode, and bundles (cosign 3).

Sources: cosign's specs/SIGNATURE_SPEC.md and specs/BUNDLE_SPEC.md; sigstore's bundle v0.3.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from wheelyard.errors import RegistryError
from wheelyard.fetching.replies import Gone
from wheelyard.oci.documents import BlobDescriptor, ImageManifest, is_digest, read_document
from wheelyard.oci.layout import MANIFEST_TYPE
from wheelyard.publish.attest.cosign import TYPE, VALUE
from wheelyard.publish.attest.signing import Signature
from wheelyard.registry.artifact import EMPTY_TYPE
from wheelyard.registry.client import Registry, get_content
from wheelyard.registry.referrers import referrers

_SIGNATURES = "application/vnd.dev.cosign.artifact.sig.v1+json"
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
# Registries before OCI 1.1 state the config's type, which is the empty one for bundles.
_LOOKED_INTO = {_SIGNATURES, _BUNDLE, EMPTY_TYPE}
_LARGEST = 1 << 20  # bytes


def referred_signatures(
    registry: Registry, repository: str, digest: str
) -> tuple[tuple[Signature, ...], tuple[Any, ...]]:
    """Return what is attached to an image: simple signatures, and envelopes of bundles."""
    signatures: list[Signature] = []
    envelopes: list[Any] = []
    try:
        for layer in _layers(registry, repository, digest):
            if layer.media_type not in (TYPE, _BUNDLE) or layer.size > _LARGEST:
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


def _layers(registry: Registry, repository: str, digest: str) -> Iterator[BlobDescriptor]:
    for entry in referrers(registry, repository, digest):
        if entry.get("artifactType") in _LOOKED_INTO and is_digest(entry["digest"]):
            there = str(entry["digest"])
            content = get_content(registry, repository, "manifests", there, MANIFEST_TYPE)
            yield from read_document(ImageManifest, content).layers
