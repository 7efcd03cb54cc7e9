"""Explains a registry's refusals: what to repeat, and what to do instead."""

from __future__ import annotations

import httpx

from wheelyard.console.plain import one_line
from wheelyard.fetching.replies import (
    Gone,
    Interrupted,
    RangeRefused,
    Refused,
    status_failure,
    transport_failure,
)

_LISTED = 3  # errors of one reply that a message names
_PLAIN = ("WRONG_VERSION_NUMBER", "wrong version number", "record layer failure")


class DigestRefused(Refused):
    """The bytes that the registry received do not match the digest."""


def registry_failure(response: httpx.Response, host: str) -> Refused | Interrupted:
    """Explain an unexpected status."""
    known = status_failure(response)
    detail = f" ({said})" if (said := _error_text(response)) else ""
    text = f"HTTP {response.status_code} {response.reason_phrase}".rstrip() + detail
    if isinstance(known, Interrupted):
        return Interrupted(text, known.wait)
    if "DIGEST_INVALID" in detail:
        return DigestRefused(text)
    if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        return RangeRefused(text)
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return Refused(f"{text}: log in with `wheelyard login {host}`, or check that login")
    if response.status_code == httpx.codes.FORBIDDEN:
        return Refused(f"{text}: this login is not permitted to do that; ask the registry's owner")
    if response.status_code == httpx.codes.METHOD_NOT_ALLOWED or "UNSUPPORTED" in detail:
        return Refused(
            f"{text}: the registry does not accept pushes (it may be read-only, or a mirror)"
        )
    if response.status_code in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
        return Gone(text)
    return Refused(text)


def connection_failure(error: Exception, host: str) -> Refused | Interrupted:
    """Explain a request that got no usable reply."""
    if any(words in str(error) for words in _PLAIN):
        return Refused(
            f"{host} does not use TLS; if reading and changing the traffic is no risk here, "
            f"name it as http://{host}"
        )
    failure = transport_failure(error)
    if "not yet valid" in str(failure) or "has expired" in str(failure):
        return Refused(f"{failure}; also check this machine's clock")
    return failure


def _error_text(response: httpx.Response) -> str:
    """Return the codes and messages of a reply (distribution-spec 1.1, "Error codes")."""
    try:
        errors = response.json()["errors"]
        words = [_one(error) for error in errors[:_LISTED]]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return one_line("; ".join(words))


def _one(error: dict[str, object]) -> str:
    said = " ".join(str(error[key]) for key in ("code", "message") if error.get(key))
    detail = error.get("detail")
    if isinstance(detail, dict):
        detail = detail.get("Err") or detail.get("err") or detail.get("reason")
    return f"{said}: {detail}"[:300] if isinstance(detail, str | dict) and detail else said
