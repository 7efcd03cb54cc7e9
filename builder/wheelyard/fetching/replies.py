"""Failed replies: which requests are worth repeating, and what the user can do."""

from __future__ import annotations

import email.utils
import re
import ssl
import time

import httpx

from wheelyard.fetching.trust import CA_ADVICE

_RETRIED = frozenset({408, 425, 429})

_CONNECT_HINT = (
    "check the host's name and port and this machine's network, and set HTTPS_PROXY if only a "
    "proxy leads there"
)
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")


class Refused(Exception):  # noqa: N818 - an answer, not a defect
    """Repeating the request will not help; the message says what to do."""


class Gone(Refused):
    """The server does not have the file; what to do instead depends on the file."""


class Interrupted(Exception):  # noqa: N818
    """Repeating the request may help, after `wait` seconds if the server said so.

    `advice` is for the user where repeating it did not help.
    """

    def __init__(self, message: str, wait: float | None = None, advice: str = "") -> None:
        super().__init__(message)
        self.wait = wait
        self.advice = advice


class RangeRefused(Interrupted):
    """The server does not continue the file where we stopped."""


class Slow(Interrupted):
    """The reply is so slow that it counts as none."""


class RefusedReply(httpx.TransportError):
    """A reply that is not accepted, whatever its content."""


class SlowReply(httpx.TransportError):
    """A reply that would never end."""


def status_failure(response: httpx.Response) -> Refused | Interrupted:
    """Explain an HTTP status other than success: repeat the request, or tell the user."""
    code = response.status_code
    text = f"HTTP {code} {response.reason_phrase}".rstrip()
    if code in _RETRIED or code >= httpx.codes.INTERNAL_SERVER_ERROR:
        return Interrupted(text, _retry_after(response.headers.get("Retry-After")))
    if code in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
        return Gone(
            f"{text}: the server does not have the file (any more); check the mirror "
            "settings (--index-url, --debian-mirror)"
        )
    if code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return Refused(
            f"{text}: access refused; check the credentials in the mirror's URL or in netrc, "
            "and that the mirror serves this file"
        )
    return Refused(f"{text}: the server does not serve this file; check the mirror settings")


def _retry_after(value: str | None) -> float | None:
    """Return the seconds to wait: the header's number, or the time until its date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def transport_failure(error: Exception) -> Refused | Interrupted:
    """Explain a request that got no usable reply: repeat it, or tell the user."""
    text = str(error) or type(error).__name__
    verification = _verification_error(error)
    if verification is not None:
        return Refused(f"TLS certificate not trusted ({verification.verify_message}); {CA_ADVICE}")
    if isinstance(error, RefusedReply):
        return Refused(text)
    if isinstance(error, SlowReply):
        return Slow(f"{text}: the server is too slow")
    if isinstance(error, httpx.TimeoutException):
        return Interrupted(f"{text}: no data arrived within --timeout (WHEELYARD_TIMEOUT)")
    if isinstance(error, httpx.ProxyError):
        message = f"the proxy from the environment (HTTPS_PROXY, HTTP_PROXY) refused: {text}"
        return Refused(message) if text.startswith("4") else Interrupted(message)
    if isinstance(error, httpx.ConnectError):
        return Interrupted(_ERRNO.sub("", text), advice=_CONNECT_HINT)
    if isinstance(error, httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol):
        return Interrupted(text)
    return Refused(text)


def _verification_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        error = error.__cause__ or error.__context__
    return None
