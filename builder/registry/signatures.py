"""Signatures beside an image, where cosign looks for them: a tag made of the image's digest.

Source: cosign's SIGNATURE_SPEC.md, "Storage".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from builder.assemble.layout import CONFIG_TYPE, MANIFEST_TYPE
from builder.attest.signing import Signature
from builder.errors import RegistryError
from builder.fetching.replies import Gone
from builder.registry.artifact import canonical, put_blob
from builder.registry.client import get_content, put_manifest

if TYPE_CHECKING:
    from builder.registry.client import Registry

TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
VALUE = "dev.cosignproject.cosign/signature"
_LARGEST = 1 << 20  # bytes of a payload; cosign's own are some hundred


def signature_tag(digest: str) -> str:
    """The tag of an image's signatures."""
    return f"{digest.replace(':', '-', 1)}.sig"


def fetch_signatures(registry: Registry, repository: str, digest: str) -> tuple[Signature, ...]:
    """Every signature of a manifest, whoever made it; raises RegistryError."""
    found = []
    try:
        for layer in _layers(registry, repository, digest):
            value = (layer.get("annotations") or {}).get(VALUE)
            if layer["mediaType"] == TYPE and value and int(layer["size"]) <= _LARGEST:
                payload = get_content(registry, repository, "blobs", str(layer["digest"]))
                found.append(Signature(payload, str(value)))
    except Gone as error:
        raise RegistryError(
            f"{registry.address}: {repository}:{signature_tag(digest)} names a signature that is "
            "not there; sign the image again"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(registry, repository, digest) from error
    return tuple(found)


def add_signature(registry: Registry, repository: str, digest: str, signature: Signature) -> None:
    """Publish a signature beside those that are there."""
    there = _layers(registry, repository, digest)
    layer = put_blob(registry, repository, signature.payload)
    layers = [*there, layer | {"mediaType": TYPE, "annotations": {VALUE: signature.value}}]
    try:
        diff_ids = [str(one["digest"]) for one in layers]
    except (KeyError, TypeError) as error:
        raise _unreadable(registry, repository, digest) from error
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    content = canonical({"architecture": "", "os": "", "config": {}, "rootfs": rootfs})
    config = put_blob(registry, repository, content) | {"mediaType": CONFIG_TYPE}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config,
        "layers": layers,
    }
    tag = signature_tag(digest)
    put_manifest(registry, repository, tag, canonical(manifest), MANIFEST_TYPE)


def _layers(registry: Registry, repository: str, digest: str) -> list[dict[str, Any]]:
    tag = signature_tag(digest)
    try:
        content = get_content(registry, repository, "manifests", tag, MANIFEST_TYPE)
    except Gone:
        return []
    try:
        return list(json.loads(content)["layers"])
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(registry, repository, digest) from error


def _unreadable(registry: Registry, repository: str, digest: str) -> RegistryError:
    where = f"{registry.address.host}/{repository}:{signature_tag(digest)}"
    return RegistryError(f"{where} holds no signatures as cosign stores them; remove that tag")
