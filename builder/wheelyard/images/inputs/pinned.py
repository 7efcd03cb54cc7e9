"""A base that is a registry's image: its layers unchanged, byte for byte.

What the image must have is checked, not added: a package cannot be installed without running its
scripts as root. One program of the image is run: its Python, which compiles bytecode, confined to
its own files (`wheelyard.system.confine`).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wheelyard.digests import Digest
from wheelyard.errors import BaseImageError
from wheelyard.fetching.replies import Gone
from wheelyard.images.assemble.image import ImageLayer
from wheelyard.images.inputs.remote import fetch_layer
from wheelyard.layers.layer import Layer
from wheelyard.lock.apt import installed
from wheelyard.oci import blobs
from wheelyard.oci.address import Address, registry_host
from wheelyard.registry.client import MANIFEST_TYPES, Registry, get_content, open_registry
from wheelyard.system.storage import remove
from wheelyard.system.textfiles import write_text

if TYPE_CHECKING:
    from wheelyard.images.assemble.assembly import Assembly
    from wheelyard.oci.blobs import StoredLayer

_INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_STATUS = "var/lib/dpkg/status"
_FORMAT = 1  # part of the keys: raise it when what is read of a layer changes


def image_layers(work: Assembly) -> list[ImageLayer]:
    """Return the layers of the registry's image, lowest first; fetch what the store lacks.

    Raises BaseImageError for an image that does not exist, or does not have what its cell needs,
    and RegistryError.
    """
    base = work.stages[0].cell.base
    image = str(base.image)
    address, repository, digest = parse_image(image)
    with open_registry(address, work.context.settings, work.context.reporter) as registry:
        try:
            manifest = _manifest(work, registry, repository, digest)
            config = _content(work, registry, repository, "blobs", manifest["config"]["digest"])
            pairs = list(zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True))
            stored = [_stored(work, registry, repository, *pair) for pair in pairs]
        except Gone as error:
            raise BaseImageError(
                f"the base {base.name}: {image} is not available: {error}"
            ) from error
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise BaseImageError(
                f"the base {base.name}: {image} is not an image: {error!r}"
            ) from error
    _require_packages(work, stored)
    name = image.partition("@")[0]
    return [ImageLayer(one, f"{name}, layer {at}", False) for at, one in enumerate(stored, 1)]


def parse_image(image: str) -> tuple[Address, str, str]:
    """Return registry, repository and digest of `HOST/NAME[:TAG]@sha256:...`.

    Plain HTTP is used for loopback only, as engines do. BaseImageError for a name without a host.
    """
    name, _, digest = image.partition("@")
    host, slash, repository = name.partition("/")
    if not slash or not (host == "localhost" or "." in host or ":" in host):
        raise BaseImageError(
            f"{image} does not name a registry's host; write HOST/NAME@sha256:DIGEST in matrix.yaml"
        )
    scheme = "http" if _is_loopback(host.rpartition(":")[0] or host) else "https"
    address = Address(registry_host(host), "", scheme)
    return address, address.repository(re.sub(r":[^/]*$", "", repository)), digest


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _manifest(work: Assembly, registry: Registry, repository: str, digest: str) -> Any:
    content = _content(work, registry, repository, "manifests", digest)
    if content.get("mediaType") not in _INDEX_TYPES:
        return content
    machine = work.stages[0].cell.architecture
    for entry in content["manifests"]:
        platform = entry.get("platform") or {}
        if (platform.get("os"), platform.get("architecture")) == ("linux", machine):
            return _content(work, registry, repository, "manifests", entry["digest"])
    raise BaseImageError(
        f"{registry.address}/{repository}@{digest} has no image for linux/{machine}"
    )


def _content(work: Assembly, registry: Registry, repository: str, kind: str, digest: str) -> Any:
    """Return a manifest or config; it is kept, so that a second build needs no registry."""
    name = f"{Digest.parse(digest).sha256}.json"
    path = work.context.settings.cache_dir / "rootfs" / name
    try:
        data = path.read_bytes()
    except OSError:  # missing, or a folder
        data = b""
    if hashlib.sha256(data).hexdigest() == path.stem:
        return json.loads(data)
    accept = ", ".join((*MANIFEST_TYPES, *_INDEX_TYPES)) if kind == "manifests" else "*/*"
    data = get_content(registry, repository, kind, digest, accept)
    if path.is_dir():
        remove(path)
    write_text(path, data.decode())
    return json.loads(data)


def _stored(
    work: Assembly, registry: Registry, repository: str, entry: dict[str, Any], diff_id: str
) -> StoredLayer:
    """Return one layer in the store, its blob kept byte for byte."""
    digest, kind = Digest.parse(entry["digest"]), str(entry["mediaType"])
    if not kind.endswith(("tar+gzip", "tar.gzip")):
        raise BaseImageError(f"{registry.address}/{repository}: a layer is {kind}, and not gzip")
    key = hashlib.sha256(f"{_FORMAT} image layer {digest}".encode()).hexdigest()
    stored = work.store.find(key, prove=work.remade is not None)
    if stored is not None:
        return stored
    return fetch_layer(
        work, registry, repository, key, Layer(digest, diff_id, int(entry["size"]), 0)
    )


def _require_packages(work: Assembly, layers: Sequence[StoredLayer]) -> None:
    """Raise BaseImageError unless the image has the Debian packages of every flavour."""
    wanted = {name for stage in work.stages for name in stage.cell.flavour.packages}
    missing = sorted(wanted - installed(_status(work, layers)).keys())
    if missing:
        base = work.stages[0].cell.base
        raise BaseImageError(
            f"the base {base.name}: {base.image} lacks the Debian packages {', '.join(missing)}; "
            "name an image that has them, or let an engine install them: --engine docker"
        )


def _status(work: Assembly, layers: Sequence[StoredLayer]) -> str:
    for stored in reversed(layers):
        for entry in work.store.entries(stored.layer):
            if entry.path == _STATUS and entry.kind == "file":
                return blobs.read_content(stored.path, entry).decode("utf-8", "replace")
    return ""
