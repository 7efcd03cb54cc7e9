"""Signed statements: sealed and opened by the right key alone."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from wheelyard.publish.attest.envelope import Statement, encoded, seal, unseal
from wheelyard.publish.attest.keys import sign
from wheelyard.publish.attest.statements import BILL, MEDIA_TYPE, bill_statement

DIGEST = f"sha256:{'ab' * 32}"
KEY, STRANGER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
STATEMENT = bill_statement("pytorch", DIGEST, '{"bomFormat": "CycloneDX"}').encode()


def sealed() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(seal(KEY, STATEMENT))
    return content


def test_what_was_sealed_is_opened_by_its_key_alone() -> None:
    assert unseal(sealed(), KEY.public_key()) == Statement(BILL, (DIGEST,), ("pytorch",))
    assert unseal(sealed(), STRANGER.public_key()) is None


def test_it_is_opened_as_it_is_stored_too() -> None:
    assert unseal(seal(KEY, STATEMENT), KEY.public_key()) == unseal(sealed(), KEY.public_key())
    for text in (b"no JSON", b"\xff", b"[" * 100_000):
        assert unseal(text, KEY.public_key()) is None


def test_the_encoding_is_the_specifications() -> None:
    """Its own example."""
    wanted = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert encoded("http://example.com/HelloWorld", b"hello world") == wanted


def test_one_of_several_signatures_is_enough() -> None:
    envelope = sealed()
    envelope["signatures"].insert(0, {"sig": base64.b64encode(b"rubbish").decode()})
    assert unseal(envelope, KEY.public_key()) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"payload": base64.b64encode(STATEMENT.replace(b"ab", b"cd")).decode()},
        {"payloadType": "text/plain"},
        {"payload": "%%%"},
        {"payload": None},
        {"signatures": []},
        {"signatures": [{}]},
        {"signatures": 1},
    ],
)
def test_a_changed_one_is_not_opened(change: dict[str, Any]) -> None:
    assert unseal(sealed() | change, KEY.public_key()) is None


@pytest.mark.parametrize("payload", [b"no", b"[]", b"{}", b'{"subject": [1], "predicateType": 1}'])
def test_a_signed_payload_that_is_no_statement(payload: bytes) -> None:
    signature = base64.b64encode(sign(KEY, encoded(MEDIA_TYPE, payload))).decode()
    envelope = {
        "payloadType": MEDIA_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"sig": signature}],
    }
    assert unseal(envelope, KEY.public_key()) is None


@pytest.mark.parametrize("envelope", [None, [], {}, "x", 1])
def test_what_is_no_envelope(envelope: object) -> None:
    assert unseal(envelope, KEY.public_key()) is None
