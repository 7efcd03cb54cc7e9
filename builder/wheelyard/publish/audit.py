"""The contents of a published image: its parts, their licences, and available fixes.

They come from the bill of materials that the push attached to the image's digest or, if a key must
have signed it, from the signed one. The image itself is not fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from packageurl import PackageURL
from pydantic import AfterValidator, Field

from wheelyard.errors import RegistryError, SignatureError
from wheelyard.fetching.replies import Gone
from wheelyard.model import LockedDeb, LockedWheel
from wheelyard.oci.documents import (
    Document,
    UnreadableError,
    matching,
    read_document,
)
from wheelyard.oci.layout import digest_of
from wheelyard.publish.attest.cosign import fetch_attestations
from wheelyard.publish.attest.envelope import unseal
from wheelyard.publish.attest.signatures import require_signed
from wheelyard.publish.attest.statements import BILL, BILL_TYPE
from wheelyard.publish.published import split_name
from wheelyard.registry.client import Registry, get_content, get_manifest
from wheelyard.registry.indexes import image_manifest
from wheelyard.registry.referrers import referrers

if TYPE_CHECKING:
    from wheelyard.publish.attest.trust import Trust

# They become arguments of apt and mmdebstrap.
_Name = Annotated[str, AfterValidator(matching(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,199}", "a name"))]
_Version = Annotated[
    str, AfterValidator(matching(r"[A-Za-z0-9][A-Za-z0-9.+:~!_-]{0,199}", "a version"))
]
_SUITE = matching(r"[a-z][a-z0-9-]{0,63}", "a suite of Debian")
_ARCHITECTURE = matching(r"[a-z0-9-]{1,32}", "an architecture")
_SHA256 = matching(r"[0-9a-f]{64}", "a SHA-256")


class _License(Document):
    id: str | None = None
    name: str | None = None


class _Stated(Document):
    license: _License | None = None
    expression: str | None = None


class _Hash(Document):
    alg: str
    content: str


class _Component(Document):
    name: _Name
    version: _Version
    purl: str
    hashes: tuple[_Hash, ...] = ()
    licenses: tuple[_Stated, ...] = ()


class _Bill(Document):
    components: tuple[_Component, ...] = Field(max_length=20_000)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of an image, from its bill of materials."""

    digest: str
    suite: str | None  # of the Debian packages
    wheels: tuple[LockedWheel, ...]
    debs: tuple[LockedDeb, ...]
    licences: Mapping[LockedWheel | LockedDeb, tuple[str, ...]]


def published_parts(registry: Registry, name: str, trust: Trust | None) -> Parts:
    """Read the bill of the image `REPOSITORY:TAG` or `REPOSITORY@DIGEST` below the prefix.

    Raises RegistryError if there is none, or it cannot be read; with `trust`, SignatureError if
    image or bill is not signed by one of its keys.
    """
    repository, reference = split_name(name)
    full = registry.address.repository(repository)
    try:
        digest = digest_of(image_manifest(registry, full, reference))
    except Gone as error:
        raise RegistryError(f"{registry.address} does not have {name}: {error}") from error
    if trust is None:
        bill = _attached(registry, full, digest)
    else:
        require_signed(registry, repository, digest, trust)
        bill = _signed(registry, full, digest, trust)
    if bill is None:
        raise (RegistryError if trust is None else SignatureError)(
            f"{name} has no {'' if trust is None else 'signed '}bill of materials; `wheelyard push"
            f"{'' if trust is None else ' --sign-key'}` of the image attaches one"
        )
    try:
        return _parts(digest, read_document(_Bill, bill))
    except ValueError as problem:
        raise RegistryError(
            f"{name}: its bill of materials is not wheelyard's: {problem}"
        ) from problem


def _attached(registry: Registry, repository: str, digest: str) -> bytes | None:
    """Return the first attached bill, which is not signed."""
    for entry in referrers(registry, repository, digest):
        if entry.get("artifactType") != BILL_TYPE:
            continue
        try:
            layers = get_manifest(registry, repository, str(entry["digest"])).layers
            return get_content(registry, repository, "blobs", layers[0].digest)
        except (Gone, UnreadableError, IndexError) as problem:
            raise RegistryError(
                f"{registry.address}: the bill of materials of {repository}@{digest} cannot be "
                f"read: {problem}"
            ) from problem
    return None


def _signed(registry: Registry, repository: str, digest: str, trust: Trust) -> bytes | None:
    """Return the newest bill that a key has signed."""
    payload: bytes | None = None
    for envelope in fetch_attestations(registry, repository, digest):
        for key in trust.keys:
            statement = unseal(envelope, key)
            if statement and statement.kind == BILL and digest in statement.digests:
                payload = json.dumps(statement.predicate).encode()
    return payload


def _parts(digest: str, bill: _Bill) -> Parts:
    licences: dict[LockedWheel | LockedDeb, tuple[str, ...]] = {}
    suites: set[str] = set()
    for component in bill.components:
        purl = PackageURL.from_string(component.purl)
        told = purl.qualifiers if isinstance(purl.qualifiers, dict) else {}
        sha256 = next((_SHA256(x.content) for x in component.hashes if x.alg == "SHA-256"), "")
        part: LockedWheel | LockedDeb
        if purl.type == "pypi":
            part = LockedWheel(component.name, component.version, "", sha256, 0)
        elif purl.type == "deb":
            suites.add(_SUITE(told.get("distro", "")))
            architecture = _ARCHITECTURE(told.get("arch", ""))
            part = LockedDeb(
                component.name, component.version, architecture, sha256, 0, purl.namespace or "", ""
            )
        else:
            continue
        licences[part] = tuple(_licences(component))
    if len(suites) > 1:
        raise ValueError(f"packages of several suites: {', '.join(sorted(suites))}")
    return Parts(
        digest,
        next(iter(suites), None),
        tuple(part for part in licences if isinstance(part, LockedWheel)),
        tuple(part for part in licences if isinstance(part, LockedDeb)),
        licences,
    )


def _licences(component: _Component) -> Iterator[str]:
    for stated in component.licenses:
        if stated.expression:
            yield stated.expression
        elif stated.license is not None and (word := stated.license.id or stated.license.name):
            yield word
