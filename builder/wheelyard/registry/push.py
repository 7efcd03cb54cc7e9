"""Pushes images from a layout to a registry: blobs, then the manifest, then the tags.

A push that fails at any point leaves every tag unchanged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

from wheelyard.errors import RegistryError, WheelyardError
from wheelyard.fetching.replies import Interrupted
from wheelyard.oci.layout import Descriptor, Layout
from wheelyard.registry.client import (
    CONNECTIONS,
    Registry,
    answers,
    has_blob,
    manifest_digest,
    put_manifest,
)
from wheelyard.registry.indexes import Shared, move_shared
from wheelyard.registry.upload import Blob, Upload, mount, send_blob
from wheelyard.system.failures import reported
from wheelyard.system.threads import each

Supply = Callable[[Sequence[str]], None]  # digests of blobs
_LOOKUPS = 8  # parallel requests without a body


@dataclass(frozen=True, slots=True)
class Publication:
    """An image of a layout that is to be published."""

    id: str
    manifest: str  # digest
    tags: tuple[str, ...]  # "pytorch:2.3.1-cuda12.1", all of one repository
    shared: Shared | None = None  # tags that name an index of several architectures

    @property
    def repository(self) -> str:
        """The repository's name below the prefix."""
        return self.tags[0].partition(":")[0]

    @property
    def all_tags(self) -> tuple[str, ...]:
        """Its own tags, and those that it shares."""
        return tuple(dict.fromkeys((*self.tags, *(self.shared.tags if self.shared else ()))))


@dataclass(frozen=True, slots=True)
class Pushed:
    """The result for an image; byte counts are of blobs, without the manifest."""

    id: str
    digest: str
    references: tuple[str, ...]  # every tag, in full
    moved: tuple[str, ...]  # the tags that pointed to another image before
    sent: int
    mounted: int
    present: int
    seconds: float
    index: str | None = None  # digest of the index that the shared tags name


@dataclass(frozen=True, slots=True)
class NotPushed:
    """An image that could not be published, and why; its tags are unchanged."""

    id: str
    error: WheelyardError


def push_images(
    registry: Registry,
    layout: Layout,
    images: Sequence[Publication],
    siblings: Sequence[str],
    notes: Path,
    supply: Supply | None = None,
) -> list[Pushed | NotPushed]:
    """Publish every image; one failure does not stop the others, a registry that is gone does.

    `supply` puts blobs into the layout that are missing there and in the registry.
    """
    results: list[Pushed | NotPushed] = []
    for number, image in enumerate(images, 1):
        try:
            results.append(push_image(registry, layout, image, siblings, notes, supply))
        except Exception as error:  # noqa: BLE001 - the next one is pushed whatever it was
            results.append(NotPushed(image.id, reported(error, image.id, registry.reporter)))
            if number < len(images) and _is_interruption(error) and not answers(registry):
                left = f"not tried: {registry.address.host} does not answer"
                registry.reporter.warn(f"{len(images) - number} more: {left}")
                results += [NotPushed(x.id, RegistryError(left)) for x in images[number:]]
                break
    return results


def _is_interruption(error: Exception) -> bool:
    return isinstance(error, RegistryError) and isinstance(error.__cause__, Interrupted)


def push_image(
    registry: Registry,
    layout: Layout,
    image: Publication,
    siblings: Sequence[str],
    notes: Path,
    supply: Supply | None = None,
    *,
    present: Collection[str] = (),
    own: Collection[str] = (),
    complete: Callable[[], object] | None = None,
) -> Pushed:
    """Publish one image; `siblings` are repositories to mount blobs from.

    `present` are digests that the repository is known to have, `own` those that no sibling can
    have. `complete` is called when the image
    is there and no tag has moved yet. Raises RegistryError, and
    StorageError for a blob that is missing or damaged here.
    """
    started = time.monotonic()
    registry = replace(registry, stop=Event())  # stopping this image does not stop the next
    repository = registry.address.repository(image.repository)
    manifest = layout.read_json(image.manifest)
    blobs = image_blobs(layout, manifest)
    absent = _absent(registry, repository, [x for x in blobs if x.digest not in present])
    others = tuple(map(registry.address.repository, siblings))
    begun = each(
        lambda b: mount(registry, repository, b, () if b.digest in own else others),
        absent, _LOOKUPS, "push", registry.stop,
    )  # fmt: skip
    missing = [pair for pair in zip(absent, begun, strict=True) if pair[1] is not None]
    if supply and missing:
        supply([blob.digest for blob, _ in missing])
    _send_all(registry, repository, image.id, missing, notes)
    data, kind = layout.blob(image.manifest).read_bytes(), manifest["mediaType"]
    # A registry has no manifest whose blobs it lacks, so it is asked only where it had them all.
    if absent or manifest_digest(registry, repository, image.manifest) != image.manifest:
        put_manifest(registry, repository, image.manifest, data, kind)
    if complete is not None:
        complete()
    moved, index = _move_tags(registry, repository, data, kind, image)
    sent = sum(blob.size for blob, _ in missing)
    mounted = sum(blob.size for blob in absent) - sent
    return Pushed(
        id=image.id,
        digest=image.manifest,
        references=tuple(map(registry.address.reference, image.all_tags)),
        moved=moved,
        sent=sent,
        mounted=mounted,
        present=sum(blob.size for blob in blobs) - sent - mounted,
        seconds=time.monotonic() - started,
        index=index,
    )


def image_blobs(layout: Layout, manifest: dict[str, Any]) -> list[Blob]:
    """List config and layers, each once, the largest first: starting it last would take longest."""
    blobs = {
        entry["digest"]: Blob(entry["digest"], entry["size"], layout.blob(entry["digest"]))
        for entry in (manifest["config"], *manifest["layers"])
    }
    return sorted(blobs.values(), key=lambda blob: -blob.size)


def _absent(registry: Registry, repository: str, blobs: Sequence[Blob]) -> list[Blob]:
    there = each(
        lambda b: has_blob(registry, repository, b.digest, b.size),
        blobs, _LOOKUPS, "push", registry.stop,
    )  # fmt: skip
    return [blob for blob, present in zip(blobs, there, strict=True) if not present]


def _send_all(
    registry: Registry,
    repository: str,
    name: str,
    missing: Sequence[tuple[Blob, Upload | None]],
    notes: Path,
) -> None:
    if not missing:
        return
    total = sum(blob.size for blob, _ in missing)
    with registry.reporter.task(f"push {name}", total, "bytes") as task:
        each(
            lambda pair: send_blob(registry, repository, pair[0], pair[1], notes, task),
            missing, CONNECTIONS, "push", registry.stop,
        )  # fmt: skip


def _move_tags(
    registry: Registry, repository: str, data: bytes, kind: str, image: Publication
) -> tuple[tuple[str, ...], str | None]:
    """Move the tags to the image, and shared ones to its index; return the moved, and the index."""
    moved = []
    shared = image.shared
    tags = [tag for tag in image.tags if shared is None or tag not in shared.tags]
    names = [tag.partition(":")[2] for tag in tags]
    now = each(
        lambda name: manifest_digest(registry, repository, name),
        names, _LOOKUPS, "push", registry.stop,
    )  # fmt: skip
    for tag, name, digest in zip(tags, names, now, strict=True):
        if digest != image.manifest:
            put_manifest(registry, repository, name, data, kind)
            moved.append(registry.address.reference(tag))
    if shared is None:
        return tuple(moved), None
    described = Descriptor(kind, image.manifest, len(data))
    index, others = move_shared(registry, repository, described, shared)
    return (*moved, *map(registry.address.reference, others)), index
