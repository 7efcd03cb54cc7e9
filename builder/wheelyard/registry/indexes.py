"""Image indexes: one tag for the images of several architectures.

The full tag is the source of truth: it says which image of each architecture there is, and the
short tags get the same index. A registry cannot make moving a tag conditional on its present
target, so what another push wrote meanwhile is read again and merged.

Source: OCI image-spec 1.1, image-index.md.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from wheelyard.architecture import ARCHITECTURES, DEFAULT
from wheelyard.errors import RegistryError
from wheelyard.fetching.replies import Gone
from wheelyard.oci.documents import (
    ImageIndex,
    ImageManifest,
    UnreadableError,
    read_document,
)
from wheelyard.oci.layout import INDEX_TYPE, Descriptor, digest_of, image_index
from wheelyard.registry.client import (
    ANY_MANIFEST,
    IMAGE_MANIFEST,
    MANIFEST_TYPES,
    Registry,
    get_config,
    get_content,
    manifest_digest,
    put_manifest,
)

_ATTEMPTS = 5
_SETTLED = 0.3  # seconds after which a push that has read the tag has moved it


@dataclass(frozen=True, slots=True)
class Shared:
    """The tags that an image shares with its siblings for other architectures."""

    architecture: str
    tags: tuple[str, ...]  # "pytorch:2.15.0-cuda13.2-cudnn9.26-py3.13", the full one first


def image_manifest(registry: Registry, repository: str, reference: str) -> bytes:
    """Fetch the manifest of an image; of an index, the one for the default architecture.

    Raises Gone if it is not there, and RegistryError for an index without that architecture.
    """
    data = get_content(registry, repository, "manifests", reference, ANY_MANIFEST)
    index = _as_index(data)
    if index is None:
        return data
    for entry in index.manifests:
        if entry.platform is not None and entry.platform.fits(DEFAULT.name):
            return get_content(registry, repository, "manifests", entry.digest, IMAGE_MANIFEST)
    there = ", ".join(x.platform.architecture for x in index.manifests if x.platform) or "none"
    raise RegistryError(
        f"{registry.address}: {repository}:{reference} has no image for linux/{DEFAULT.name}, "
        f"only for: {there}"
    )


def move_shared(
    registry: Registry, repository: str, image: Descriptor, shared: Shared
) -> tuple[str, tuple[str, ...]]:
    """Put an image into the index of its shared tags; return its digest and the moved tags.

    Short tags wait for the default architecture's image, which most machines ask for.
    """
    full = shared.tags[0].partition(":")[2]
    moved: dict[str, None] = {}
    for attempt in range(_ATTEMPTS):
        started = time.monotonic()
        images = {**_present(registry, repository, full), shared.architecture: image}
        data = image_index(images)
        digest = digest_of(data)
        tags = shared.tags if DEFAULT.name in images else shared.tags[:1]
        names = {tag: tag.partition(":")[2] for tag in tags}
        late = [x for x in names if manifest_digest(registry, repository, names[x]) != digest]
        if not late:
            return digest, tuple(moved)
        put_manifest(registry, repository, digest, data, INDEX_TYPE)
        for tag in late:
            put_manifest(registry, repository, names[tag], data, INDEX_TYPE)
        moved |= dict.fromkeys(late)
        settle(started, attempt)
    raise RegistryError(
        f"{registry.address}: {repository}: other pushes keep moving {full}; push again when they "
        "are done"
    )


def settle(started: float, attempt: int) -> None:
    """Sleep until others that read what we replaced, from `started` on, have written as well.

    They get twice the time that it took us. From the second attempt on it is random, which parts
    two pushes.
    """
    settled = max(_SETTLED, 2 * (time.monotonic() - started))
    time.sleep(settled * random.uniform(1, 1 + attempt))  # noqa: S311 - not for secrets


def shared_index(
    registry: Registry, repository: str, tag: str, images: Mapping[str, str]
) -> str | None:
    """Return the digest of the index that a tag names; None if it is not that of these images.

    `images` are manifests' digests by architecture. Whoever trusts them can trust the index then:
    it holds nothing else.
    """
    try:
        data = get_content(registry, repository, "manifests", tag, ANY_MANIFEST)
    except Gone:
        return None
    index = _as_index(data)
    there = {} if index is None else _by_architecture(index)
    if {name: image.digest for name, image in there.items()} != images:
        return None
    return digest_of(data) if image_index(there) == data else None


def _present(registry: Registry, repository: str, tag: str) -> dict[str, Descriptor]:
    """Return the image of each architecture that a tag names now: an index, or one image."""
    try:
        data = get_content(registry, repository, "manifests", tag, ANY_MANIFEST)
    except Gone:
        return {}
    index = _as_index(data)
    if index is None:
        manifest = read_document(ImageManifest, data)
        architecture = _architecture(registry, repository, manifest)
        image = Descriptor(manifest.media_type, digest_of(data), len(data))
        return {} if architecture is None else {architecture: image}
    return _by_architecture(index)


def _by_architecture(index: ImageIndex) -> dict[str, Descriptor]:
    return {
        name: Descriptor(entry.media_type, entry.digest, entry.size)
        for name in ARCHITECTURES
        for entry in index.manifests
        if entry.platform is not None and entry.platform.fits(name)
    }


def _architecture(registry: Registry, repository: str, manifest: ImageManifest) -> str | None:
    """Return the architecture of an image that a tag names directly; None if it states none."""
    try:
        return get_config(registry, repository, manifest).architecture
    except (Gone, UnreadableError):
        return None


def _as_index(data: bytes) -> ImageIndex | None:
    """Read an index; None for the manifest of one image."""
    try:
        index = read_document(ImageIndex, data)
    except UnreadableError:
        return None
    return None if index.media_type in MANIFEST_TYPES else index  # it must not be both
