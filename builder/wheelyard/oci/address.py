"""Addresses of registries: `HOST[:PORT][/PREFIX]`, with `http://` only if it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass

# OCI distribution-spec 1.1, "Pulling manifests": <name>.
_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_ADDRESS = re.compile(
    rf"(?:(?P<scheme>https?)://)?"
    rf"(?P<host>(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::\d{{1,5}})?)"
    rf"(?:/(?P<prefix>{_NAME}(?:/{_NAME})*))?/?"
)
# Docker Hub goes by several names: distribution/reference, normalize.go; registry/config.go.
HUB = "docker.io"
HUB_API = f"registry-1.{HUB}"
HUB_LOGIN = f"https://index.{HUB}/v1/"  # the key of its login in Docker's config.json
_HUB_NAMES = {HUB, HUB_API, f"index.{HUB}", f"www.{HUB}"}


@dataclass(frozen=True, slots=True)
class Address:
    """A registry, and the prefix of all repositories in it."""

    host: str  # "registry.example:5000"
    prefix: str  # "team/images", or empty
    scheme: str = "https"

    @property
    def url(self) -> str:
        """The URL of the registry's API."""
        return f"{self.scheme}://{HUB_API if self.host == HUB else self.host}/v2/"

    def repository(self, name: str) -> str:
        """Return a repository's full name; Docker Hub's own repositories are in `library`."""
        if self.host == HUB and not self.prefix and "/" not in name:
            return f"library/{name}"
        return f"{self.prefix}/{name}" if self.prefix else name

    def reference(self, tag: str) -> str:
        """Return the argument of `docker pull` for a tag such as `pytorch:2.3.1-cuda12.1`."""
        return f"{self.host}/{self.repository(tag)}"

    def __str__(self) -> str:
        return f"{self.host}/{self.prefix}" if self.prefix else self.host


def pinned(reference: str, digest: str) -> str:
    """Name the same image by digest: `host/name:tag` becomes `host/name@sha256:...`."""
    return f"{reference.rpartition(':')[0]}@{digest}"


def parse_address(text: str) -> Address:
    """Read an address; raise ValueError, without the secrets that the text may contain."""
    if "@" in text:
        raise ValueError(
            "a registry's address must not contain a login; use `wheelyard login HOST`"
        )
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not HOST[:PORT][/PREFIX], PREFIX in lower case")
    host = registry_host(match["host"])
    return Address(host, match["prefix"] or "", match["scheme"] or "https")


def registry_host(host: str) -> str:
    """Return a registry's host as references name it: one name for Docker Hub."""
    return HUB if host.lower() in _HUB_NAMES else host
