"""Requests to one registry: with a login, repeated if that may help.

Source: OCI distribution-spec 1.1.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from wheelyard.console.tasks import Reporter
from wheelyard.digests import Digest, DigestError
from wheelyard.errors import RegistryError, ToolMissingError
from wheelyard.fetching.download import Session, download
from wheelyard.fetching.guard import SMALL
from wheelyard.fetching.patience import PATIENCE, GaveUp, Patience, patiently
from wheelyard.fetching.replies import Gone, Interrupted, Refused
from wheelyard.fetching.transport import make_client
from wheelyard.fetching.wanted import Download
from wheelyard.oci.address import Address
from wheelyard.oci.documents import ConfigDocument, ImageManifest, read_document
from wheelyard.oci.layout import INDEX_TYPE, MANIFEST_TYPE, digest_of
from wheelyard.registry.credentials import Credential, find_credential
from wheelyard.registry.login import Login
from wheelyard.registry.replies import connection_failure, registry_failure
from wheelyard.settings import Settings
from wheelyard.system.threads import Stopped
from wheelyard.system.urls import redact

CONNECTIONS = 4  # blobs under way at once
MANIFEST_LIMIT = 4 << 20  # bytes, as the specification has it for registries
_BLOB_LIMIT = 16 << 20  # bytes of a blob that is read whole: a config, a catalogue, a signature
_DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES = (
    MANIFEST_TYPE,
    "application/vnd.docker.distribution.manifest.v2+json",
)
IMAGE_MANIFEST = ", ".join(MANIFEST_TYPES)
ANY_MANIFEST = ", ".join((*MANIFEST_TYPES, INDEX_TYPE, _DOCKER_LIST))  # indexes as well
_DIGEST_HEADER = "Docker-Content-Digest"
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")  # "Pulling manifests"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry for the duration of one call."""

    address: Address
    http: httpx.Client
    reporter: Reporter
    patience: Patience = PATIENCE
    stop: threading.Event = field(default_factory=threading.Event)
    told: dict[tuple[str, int], object] = field(default_factory=dict)  # since it last answered

    def url(self, repository: str, rest: str) -> str:
        """Return a URL of the API; `repository` is the full name."""
        return f"{self.address.url}{repository}/{rest}"


@contextmanager
def open_registry(
    address: Address, settings: Settings, reporter: Reporter, patience: Patience = PATIENCE
) -> Iterator[Registry]:
    """Connect to a registry while the context lasts."""
    login = Login(address.url, _finder(address, reporter))
    http = make_client(settings, 2 * CONNECTIONS, login)
    registry = Registry(address, http, reporter, patience)
    try:
        yield registry
    except Exception:
        http.close()
        raise
    http.close()  # not when interrupted: a thread may still be reading


def check_login(
    address: Address, credential: Credential, settings: Settings, reporter: Reporter
) -> None:
    """Ask the registry whether it accepts a login; raise RegistryError if not."""
    with closing(make_client(settings, 1, Login(address.url, lambda _: credential))) as http:
        registry = Registry(address, http, reporter, PATIENCE)
        try:
            ask(registry, "GET", address.url, ok=(httpx.codes.OK,))
        except Gone as error:
            raise RegistryError(f"{address.host} is not a registry: {error}") from error


def _finder(address: Address, reporter: Reporter) -> Callable[[str], Credential | None]:
    """Look up logins; without the credential helper continue anonymously, as docker does."""
    said: set[str] = set()

    def find(repository: str) -> Credential | None:
        try:
            return find_credential(address.host, repository)
        except ToolMissingError as error:
            if not said:
                said.add(str(error))
                reporter.warn(f"{error}; continuing without a login for {address.host}")
            return None

    return find


def send(
    registry: Registry,
    method: str,
    url: str | httpx.URL,
    *,
    ok: Iterable[int],
    headers: Mapping[str, str] | None = None,
    content: bytes | Iterable[bytes] | None = None,
    limit: int = SMALL,
) -> httpx.Response:
    """Send one request, once; raise Refused, Gone or Interrupted for a status not in `ok`.

    `limit` is the largest size of the reply in bytes.
    """
    _log.debug("%s %s", method, redact(str(url)))
    if registry.stop.is_set():
        raise Stopped
    try:
        response = registry.http.request(
            method, url, headers=headers, content=content, extensions={"limit": limit}
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise connection_failure(error, registry.address.host) from error
    registry.told.clear()
    if response.status_code not in ok:
        raise registry_failure(response, registry.address.host)
    return response


def ask(
    registry: Registry,
    method: str,
    url: str | httpx.URL,
    *,
    ok: Iterable[int],
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    limit: int = SMALL,
) -> httpx.Response:
    """Send a repeatable request, with back-off; raise RegistryError or Gone."""

    def request() -> httpx.Response:
        return send(registry, method, url, ok=ok, headers=headers, content=content, limit=limit)

    try:
        return patiently(request, partial(wait, registry))
    except Gone:
        raise
    except Refused as error:
        raise RegistryError(f"{registry.address}: {error}") from error


def answers(registry: Registry) -> bool:
    """Tell whether the registry answers now, whatever it says; asked once."""
    try:
        send(registry, "GET", registry.address.url, ok=(httpx.codes.OK,))
    except Interrupted as error:
        return not isinstance(error.__cause__, httpx.HTTPError)  # it answered, with an error
    except (Refused, Gone):
        return True
    return True


def wait(registry: Registry, error: Interrupted, failures: int, advice: str = "") -> None:
    """Sleep before the next attempt; raise RegistryError if there is none, Stopped if told to.

    `advice` is added to the error, for example what has been stored already. Connections at once
    meet the same error: the first of them tells.
    """
    mine = object()
    is_first = registry.told.setdefault((str(error), failures), mine) is mine
    reporter = registry.reporter if is_first else None
    try:
        registry.patience.pause(error, failures, registry.stop, reporter, registry.address.host)
    except GaveUp as reason:
        hint = f"; {error.advice}" if error.advice else ""
        raise RegistryError(f"{registry.address}: {reason}{hint}{advice}") from error


def has_blob(registry: Registry, repository: str, digest: str, size: int) -> bool:
    """Tell whether a repository holds a complete blob."""
    url = registry.url(repository, f"blobs/{_digest(registry, digest)}")
    try:
        response = ask(registry, "HEAD", url, ok=(httpx.codes.OK,))
    except Gone:
        return False
    return str(response.headers.get("Content-Length", size)) == str(size)


def manifest_digest(registry: Registry, repository: str, reference: str) -> str | None:
    """Return the digest of a tag (or digest) in the registry; None if it does not exist."""
    url = registry.url(repository, f"manifests/{_reference(registry, reference)}")
    accept = {"Accept": ANY_MANIFEST}
    try:
        response = ask(registry, "HEAD", url, ok=(httpx.codes.OK,), headers=accept)
    except Gone:
        return None
    said = response.headers.get(_DIGEST_HEADER)
    return None if said is None else _digest(registry, said)


def _digest(registry: Registry, text: object) -> Digest:
    try:
        return Digest.parse(text)
    except DigestError as error:
        raise RegistryError(f"{registry.address}: {error}") from error


def _reference(registry: Registry, text: str) -> str:
    """Check a tag or a digest, which becomes part of a manifest's URL."""
    return text if _TAG.fullmatch(text) else _digest(registry, text)


def put_manifest(
    registry: Registry, repository: str, reference: str, data: bytes, media_type: str
) -> None:
    """Store a manifest under a tag or its digest; RegistryError if another one was stored."""
    url = registry.url(repository, f"manifests/{reference}")
    headers = {"Content-Type": media_type}
    try:
        response = ask(
            registry, "PUT", url, ok=(httpx.codes.CREATED,), headers=headers, content=data
        )
    except Gone as error:
        raise RegistryError(
            f"{registry.address}: {repository}: the manifest was not accepted: {error}; "
            "run the command again"
        ) from error
    expected = digest_of(data)
    if response.headers.get(_DIGEST_HEADER, expected) != expected:
        raise RegistryError(
            f"{registry.address}: {repository}: the registry stored "
            f"{response.headers[_DIGEST_HEADER]} but {expected} was sent: something on the way "
            "changes the content"
        )


def fetch_blob(registry: Registry, repository: str, digest: str, size: int, folder: Path) -> Path:
    """Fetch a blob of any size into a folder of fetched files, resumed and checked.

    Raises FetchError.
    """
    sha256 = _digest(registry, digest).sha256
    url = registry.url(repository, f"blobs/sha256:{sha256}")
    session = Session(registry.http, registry.reporter, registry.patience)
    return download(Download(url, f"{sha256[:12]}.tar.gz", sha256, size), folder, session)


def get_content(
    registry: Registry, repository: str, kind: str, reference: str, accept: str = "*/*"
) -> bytes:
    """Fetch a manifest (`kind` "manifests") or small blob ("blobs"); raise Gone or RegistryError.

    A blob's only name is its digest, and content that is requested by digest is checked against it.
    """
    name = _digest(registry, reference) if kind == "blobs" else _reference(registry, reference)
    url = registry.url(repository, f"{kind}/{name}")
    limit = MANIFEST_LIMIT if kind == "manifests" else _BLOB_LIMIT
    response = ask(
        registry, "GET", url, ok=(httpx.codes.OK,), headers={"Accept": accept}, limit=limit
    )
    if isinstance(name, Digest) and digest_of(response.content) != name:
        raise RegistryError(
            f"{registry.address}: {repository}: the content of {reference} does not match its "
            "digest; do not use this registry or proxy until the cause is known"
        )
    return response.content


def get_manifest(registry: Registry, repository: str, reference: str) -> ImageManifest:
    """Fetch the manifest of an image or artifact; raise as `get_content`, and UnreadableError."""
    content = get_content(registry, repository, "manifests", reference, IMAGE_MANIFEST)
    return read_document(ImageManifest, content)


def get_config(registry: Registry, repository: str, manifest: ImageManifest) -> ConfigDocument:
    """Fetch an image's config; raise as `get_manifest`."""
    content = get_content(registry, repository, "blobs", manifest.config.digest)
    return read_document(ConfigDocument, content)
