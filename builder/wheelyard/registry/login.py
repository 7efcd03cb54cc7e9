"""Answers a registry's 401: basic authentication, or a token from the realm that it names.

Source: distribution-spec 1.1 and "Token Authentication Specification" of the distribution project.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

import httpx

from wheelyard.fetching.logins import follow, origin
from wheelyard.registry.credentials import Credential

_CLIENT_ID = "wheelyard"
_DEFAULT_LIFE = 60  # seconds that a token is valid if its server does not say
_EARLY = 10  # seconds before its end at which a token is renewed
_SCHEME = re.compile(r"\s*(basic|bearer)\b\s*(.*)", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r'([a-z_]+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))', re.IGNORECASE)
_REPOSITORY = re.compile(r"/v2/(.+)/(?:blobs|manifests|tags|referrers)(?:/|$)")

Flow = Generator[httpx.Request, httpx.Response, None]


@dataclass(frozen=True, slots=True)
class Challenge:
    """The content of a `WWW-Authenticate` header."""

    scheme: str  # "basic" or "bearer"
    parameters: Mapping[str, str]


def parse_challenge(header: str) -> Challenge | None:
    """Return the challenge if we can answer it, otherwise None."""
    match = _SCHEME.match(header)
    if match is None:
        return None
    pairs = ((name.lower(), quoted or bare) for name, quoted, bare in _PARAMETER.findall(match[2]))
    return Challenge(match[1].lower(), dict(pairs))


class Login(httpx.Auth):
    """Credentials for one registry, sent only to it and to its token server.

    Tokens are valid for one repository (and the one that a blob is mounted from) and are kept here
    only. Their lifetime is measured by our own monotonic clock, so a wrong clock does not matter.
    """

    def __init__(self, url: str, find: Callable[[str], Credential | None]) -> None:
        """Take the registry's `url`; `find` returns the credential for a repository's name."""
        self._registry = origin(httpx.URL(url))
        self._find = find
        self._known: dict[str, tuple[str, float]] = {}  # purpose -> header, end of validity
        self._lock = threading.Lock()

    def auth_flow(self, request: httpx.Request) -> Flow:
        """Yield the request with the known login, and once more if the registry asks for one."""
        if origin(request.url) != self._registry:
            # An upload that was sent elsewhere carries its permission in its URL.
            yield from follow(request)
            return
        what = _purpose(request.url)
        if header := self._current(what):
            request.headers["Authorization"] = header
        response, answered_by = yield from follow(request)
        challenge = parse_challenge(response.headers.get("WWW-Authenticate", ""))
        if response.status_code != httpx.codes.UNAUTHORIZED or challenge is None:
            return
        if origin(answered_by.url) != self._registry:
            return  # CVE-2020-15157: the target of a redirect asks for the registry's login
        if challenge.scheme == "bearer":
            answered = yield from self._token(challenge, request, what)
        else:
            answered = self._basic(request, what)
        if answered:
            yield from follow(request)

    def _current(self, what: str) -> str | None:
        with self._lock:
            header, ends = self._known.get(what, ("", 0.0))
        return header if time.monotonic() < ends else None

    def _keep(self, what: str, header: str, seconds: float) -> None:
        with self._lock:
            self._known[what] = (header, time.monotonic() + seconds)

    def _basic(self, request: httpx.Request, what: str) -> bool:
        credential = self._find(what.partition(" ")[0])
        if credential is None or credential.is_identity_token:
            return False
        before = request.headers.get("Authorization")
        next(httpx.BasicAuth(credential.username, credential.secret).auth_flow(request))
        self._keep(what, request.headers["Authorization"], float("inf"))
        return bool(before != request.headers["Authorization"])  # else it was refused already

    def _token(
        self, challenge: Challenge, request: httpx.Request, what: str
    ) -> Generator[httpx.Request, httpx.Response, bool]:
        credential = self._find(what.partition(" ")[0])
        asking = token_request(challenge, credential, secure=request.url.scheme == "https")
        if asking is None:
            return False
        answer, _ = yield from follow(asking, leave=False)
        if answer.status_code != httpx.codes.OK:
            return False
        answer.read()  # here, and not by `requires_response_body`: layers pass through here too
        try:
            content = answer.json()
            token = content.get("token") or content["access_token"]
            life = float(content.get("expires_in") or _DEFAULT_LIFE)
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        request.headers["Authorization"] = f"Bearer {token}"
        self._keep(what, f"Bearer {token}", max(1.0, life - _EARLY))
        return True


def token_request(
    challenge: Challenge, credential: Credential | None, *, secure: bool
) -> httpx.Request | None:
    """Return the request for a token; None if the realm must not see a login.

    `secure` says that the registry itself was reached by TLS, so its token server must be, too.
    """
    given = challenge.parameters
    realm = given.get("realm", "")
    if not realm.startswith("https://" if secure else ("http://", "https://")):
        return None
    asked = {"service": given["service"]} if "service" in given else {}
    if credential is not None and credential.is_identity_token:
        form = {"grant_type": "refresh_token", "refresh_token": credential.secret}
        scope = {"scope": given["scope"]} if "scope" in given else {}
        return httpx.Request("POST", realm, data=form | asked | scope | {"client_id": _CLIENT_ID})
    scopes = [("scope", scope) for scope in given.get("scope", "").split()]
    url = httpx.URL(realm)
    url = url.copy_with(params=[*url.params.multi_items(), *asked.items(), *scopes])
    request = httpx.Request("GET", url)
    if credential is not None:
        next(httpx.BasicAuth(credential.username, credential.secret).auth_flow(request))
    return request


def _purpose(url: httpx.URL) -> str:
    """Return what a token is for: the repository, and the one that a blob is mounted from."""
    match = _REPOSITORY.search(url.path)
    name = match[1] if match else ""
    return f"{name} {url.params['from']}" if "from" in url.params else name
