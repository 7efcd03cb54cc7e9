"""Signed statements: in-toto in a DSSE envelope, which cosign calls an attestation. Pure.

Source: secure-systems-lab's DSSE, protocol.md and envelope.md (v1.0.2).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wheelyard.publish.attest.keys import is_signed, sign
from wheelyard.publish.attest.signing import is_name
from wheelyard.publish.attest.statements import MEDIA_TYPE as STATEMENT_TYPE

if TYPE_CHECKING:
    from wheelyard.publish.attest.keys import PrivateKey, PublicKey

MEDIA_TYPE = "application/vnd.dsse.envelope.v1+json"
_SIGNED = "https://sigstore.dev/cosign/sign/v1"  # the predicate type of cosign 3's signatures


@dataclass(frozen=True, slots=True)
class Statement:
    """The parts of a signed in-toto statement that are used here."""

    kind: str  # predicate type
    digests: tuple[str, ...]  # `sha256:<hex>` of its subjects
    names: tuple[str, ...] = ()  # of its subjects, if they have one
    predicate: Any = field(default=None, compare=False, repr=False)  # the statement about them


def seal(key: PrivateKey, statement: bytes) -> bytes:
    """Return the signed envelope of a statement."""
    signature = {"keyid": "", "sig": _base64(sign(key, encoded(STATEMENT_TYPE, statement)))}
    return json.dumps(
        {
            "payloadType": STATEMENT_TYPE,
            "payload": _base64(statement),
            "signatures": [signature],
        },
        separators=(",", ":"),
    ).encode()


def unseal(envelope: object, key: PublicKey) -> Statement | None:
    """Return the statement of an envelope (JSON, or read); None if the key has not signed it.

    The payload is read only after its signature was verified.
    """
    try:
        if isinstance(envelope, bytes):
            envelope = json.loads(envelope)
        kind = envelope["payloadType"]  # type: ignore[index]
        payload = base64.b64decode(envelope["payload"], validate=True)  # type: ignore[index]
        signatures = [
            base64.b64decode(one["sig"], validate=True)
            for one in envelope["signatures"]  # type: ignore[index]
        ]
        signed = encoded(str(kind), payload)
        if kind != STATEMENT_TYPE or not any(is_signed(key, signed, one) for one in signatures):
            return None
        return _statement(json.loads(payload))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def vouches(envelope: object, keys: Sequence[PublicKey], repository: str, digest: str) -> bool:
    """Tell whether an envelope is a key's signature of an image, not a statement about it.

    cosign gives the subject of a signature no name; if there is one, it must match ours.
    """
    statement = next(filter(None, (unseal(envelope, key) for key in keys)), None)
    return (
        statement is not None
        and statement.kind == _SIGNED
        and digest in statement.digests
        and all(is_name(name, repository) for name in statement.names)
    )


def encoded(kind: str, payload: bytes) -> bytes:
    """Return the bytes that are signed for a payload: DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(payload), payload)


def _statement(content: dict[str, Any]) -> Statement:
    digests = (f"sha256:{one['digest']['sha256']}" for one in content["subject"])
    names = (str(one["name"]) for one in content["subject"] if one.get("name"))
    return Statement(
        str(content["predicateType"]), tuple(digests), tuple(names), content.get("predicate")
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
