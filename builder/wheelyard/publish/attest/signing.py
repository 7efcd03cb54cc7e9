"""What is signed, and whether a signature is valid: cosign's "simple signing". Pure.

Source: cosign's SIGNATURE_SPEC.md; containers/image's container-signature(5) for the payload.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wheelyard.errors import SignatureError
from wheelyard.oci.address import registry_host
from wheelyard.publish.attest.keys import is_signed, sign

if TYPE_CHECKING:
    from wheelyard.publish.attest.keys import PrivateKey, PublicKey

KIND = "cosign container image signature"


@dataclass(frozen=True, slots=True)
class Signature:
    """A signed claim about an image."""

    payload: bytes  # JSON, signed as it is
    value: str  # base64 of the signature in DER


def claim(repository: str, digest: str) -> bytes:
    """Return the payload for a manifest's digest; `repository` includes its host."""
    critical = {
        "identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": digest},
        "type": KIND,
    }
    return json.dumps({"critical": critical, "optional": None}, separators=(",", ":")).encode()


def make_signature(key: PrivateKey, repository: str, digest: str) -> Signature:
    """Sign a manifest's digest."""
    payload = claim(repository, digest)
    return Signature(payload, base64.b64encode(sign(key, payload)).decode())


def fault(
    signature: Signature, keys: Sequence[PublicKey], repository: str, digest: str
) -> str | None:
    """Say why a signature is not valid for `digest` under that name; None if it is.

    The payload is read only after its signature was verified.
    """
    try:
        value = base64.b64decode(signature.value, validate=True)
    except (binascii.Error, ValueError):
        return "one is not in base64"
    if not any(is_signed(key, signature.payload, value) for key in keys):
        return "one is by another key, or was changed"
    try:
        critical = json.loads(signature.payload)["critical"]
        kind, signed = critical["type"], critical["image"]["docker-manifest-digest"]
        name = critical["identity"]["docker-reference"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "one signs something that is not an image"
    if kind != KIND:
        return f"one signs {kind!r}, which is not an image"
    if signed != digest:
        return f"one is over another image, {signed}"
    if not is_name(name, repository):
        return f"one is for the name {name!a} (--signed-as HOST/PREFIX, if that was copied here)"
    return None


def is_name(claimed: object, repository: str) -> bool:
    """Tell whether a signature's name is the repository's, optionally with tag or digest."""
    if not isinstance(claimed, str):
        return False
    head, slash, last = claimed.partition("@")[0].rpartition("/")
    host, end, path = f"{head}{slash}{last.partition(':')[0]}".partition("/")
    return f"{registry_host(host)}{end}{path}" == repository


def require_signature(
    signatures: Iterable[Signature], keys: Sequence[PublicKey], repository: str, digest: str
) -> None:
    """Raise SignatureError unless one of the signatures is by a key, over `digest`."""
    faults = []
    for signature in signatures:
        problem = fault(signature, keys, repository, digest)
        if problem is None:
            return
        faults.append(problem)
    what = "; ".join(dict.fromkeys(faults)) or "there is none"
    raise SignatureError(
        f"{repository}@{digest} has no signature by this key: {what}. Do not run it before that is "
        "explained; `wheelyard push --sign-key` or `cosign sign --key` signs it"
    )
