"""What is signed, and whether a signature holds: cosign's "simple signing". Pure.

Source: cosign's SIGNATURE_SPEC.md; containers/image's container-signature(5) for the payload.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.attest.keys import is_signed, sign
from builder.errors import SignatureError

if TYPE_CHECKING:
    from builder.attest.keys import PrivateKey, PublicKey

KIND = "cosign container image signature"


@dataclass(frozen=True, slots=True)
class Signature:
    """A signed claim about an image."""

    payload: bytes  # JSON, signed as it is
    value: str  # base64 of the signature in DER


def claim(repository: str, digest: str) -> bytes:
    """The payload for a manifest's digest; `repository` with its host, as `docker pull` has it."""
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


def fault(signature: Signature, key: PublicKey, digest: str) -> str | None:
    """Why a signature does not vouch for `digest`; None where it does.

    What the payload says is read only once it is known to be the key's.
    """
    try:
        value = base64.b64decode(signature.value, validate=True)
    except (binascii.Error, ValueError):
        return "one is not in base64"
    if not is_signed(key, signature.payload, value):
        return "one is by another key, or was changed"
    try:
        critical = json.loads(signature.payload)["critical"]
        kind, signed = critical["type"], critical["image"]["docker-manifest-digest"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "one signs something that is no image"
    if kind != KIND:
        return f"one signs {kind!r}, which is no image"
    return None if signed == digest else f"one is over another image, {signed}"


def require_signature(
    signatures: Iterable[Signature], key: PublicKey, image: str, digest: str
) -> None:
    """Raise SignatureError unless one of the signatures is the key's, over `digest`."""
    faults = []
    for signature in signatures:
        problem = fault(signature, key, digest)
        if problem is None:
            return
        faults.append(problem)
    what = "; ".join(dict.fromkeys(faults)) or "there is none"
    raise SignatureError(
        f"{image}@{digest} has no signature by this key: {what}. Do not run it before that is "
        "explained; `wheelyard push --sign-key` or `cosign sign --key` signs it"
    )
