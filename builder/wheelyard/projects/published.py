"""A base image as a registry or a layout has it: manifest, config, and its small final layer.

No other layer is read. What is read by digest is kept in the cache, where its digest is checked
again, so that the next command asks nothing.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from wheelyard.architecture import ARCHITECTURES, DEFAULT
from wheelyard.contract.constraints import CONSTRAINTS
from wheelyard.contract.imageconfig import CELL_LABEL
from wheelyard.contract.paths import LOCK
from wheelyard.digests import Digest
from wheelyard.errors import LockError, ProjectError, StorageError, unreadable
from wheelyard.fetching.replies import Gone
from wheelyard.layers.gzipmember import inflated_all
from wheelyard.layers.wheel import is_plain
from wheelyard.lock.inputs import wheel_platform
from wheelyard.lock.lockfile import parse_requirements_lock
from wheelyard.model import Base, LockedWheel
from wheelyard.oci.documents import (
    CellLabel,
    ConfigDocument,
    ImageManifest,
    UnreadableError,
    read_document,
)
from wheelyard.oci.layout import LAYER_TYPE, Layout, digest_of
from wheelyard.projects.base import base_contents
from wheelyard.projects.model import BaseImage, ProjectLock
from wheelyard.registry.client import IMAGE_MANIFEST, Registry, get_content
from wheelyard.registry.indexes import image_manifest
from wheelyard.system.tarfiles import open_tar
from wheelyard.system.textfiles import write_bytes

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.publish.attest.trust import Trust

_LAYER_MAX = 8 << 20  # bytes of the final layer; it has some 150,000
_TAR_MAX = 64 << 20  # bytes of the tar inside it
_TEXT_MAX = 4 << 20  # bytes of one of the files that are read
_SUITE = re.compile(r"wheelyard: Debian ([a-z]{3,20}),")

_OLDEST = "bookworm"  # of the suites: what runs there runs on every base

Read = Callable[[str, str], bytes]  # "manifests" or "blobs", and a digest -> content


@dataclass(frozen=True, slots=True)
class Documents:
    """Small content of registries by its digest, kept in the cache."""

    cache: Path

    def get(self, digest: str) -> bytes | None:
        """Return content that is kept and intact."""
        try:
            content = self._place(digest).read_bytes()
        except OSError:
            return None
        return content if digest_of(content) == digest else None

    def put(self, digest: str, content: bytes) -> None:
        """Keep content; where the cache cannot be written it is fetched again next time."""
        with suppress(StorageError):
            write_bytes(self._place(digest), content)

    def _place(self, digest: str) -> Path:
        return self.cache / "documents" / Digest.parse(digest).sha256


def base_from_registry(
    registry: Registry,
    reference: str,
    documents: Documents,
    *,
    digest: str | None = None,
    trust: Trust | None = None,
) -> BaseImage:
    """Read the image `reference` ("pytorch:TAG", below the prefix), or that of `digest`.

    Raises ProjectError if the registry does not have it or it is not an image of a set, with
    `trust` SignatureError unless the image is signed, and RegistryError.
    """
    name, _, tag = reference.partition(":")
    repository = registry.address.repository(name)

    def read(kind: str, wanted: str) -> bytes:
        content = documents.get(wanted)
        if content is None:
            content = get_content(registry, repository, kind, wanted, IMAGE_MANIFEST)
            documents.put(wanted, content)
        return content

    where = registry.address.reference(reference)
    try:
        if digest is None:
            manifest = image_manifest(registry, repository, tag)
            digest = digest_of(manifest)
            documents.put(digest, manifest)
        if trust is not None:
            from wheelyard.publish.attest.signatures import require_signed

            require_signed(registry, name, digest, trust)
        return _described(reference, digest, read, where)
    except Gone as error:
        raise ProjectError(
            f"{registry.address} no longer has {digest or tag} in {repository}; publish the base "
            f"there (wheelyard push), or choose another image and run `wheelyard lock` again"
        ) from error


def base_from_layout(layout: Layout, reference: str, *, digest: str | None = None) -> BaseImage:
    """Read the image `reference` of a layout, or that of `digest`.

    Raises ProjectError if it is not there or not an image of a set, and StorageError.
    """
    where = f"{reference} in {layout.folder}"
    if digest is None:
        found = layout.references().get(reference)
        if found is None:
            raise ProjectError(f"{layout.folder} has no {reference}; build it, or use --registry")
        digest = found.digest

    def read(_kind: str, wanted: str) -> bytes:
        path = layout.blob(wanted)
        try:
            if path.stat().st_size > _LAYER_MAX:
                raise ProjectError(f"{where}: {wanted} is too large for what is read")
            content = path.read_bytes()
        except OSError as error:
            raise ProjectError(f"{where}: {wanted} is missing; build the image again") from error
        if digest_of(content) != wanted:
            raise StorageError(f"{path} is damaged; build the image again")
        return content

    return _described(reference, digest, read, where)


def _described(reference: str, digest: str, read: Read, where: str) -> BaseImage:
    try:
        manifest_text = read("manifests", digest)
        manifest = read_document(ImageManifest, manifest_text)
        config_text = read("blobs", manifest.config.digest)
        config = read_document(ConfigDocument, config_text)
    except UnreadableError as error:
        raise ProjectError(f"{where} is not an image that can be read: {error}") from error
    facts = _facts(config.label(CELL_LABEL), where)
    if not manifest.layers or len(manifest.layers) != len(config.rootfs.diff_ids):
        raise ProjectError(f"{where}: manifest and config name different layers")
    final = manifest.layers[-1]
    if final.media_type != LAYER_TYPE or final.size > _LAYER_MAX:
        raise ProjectError(
            f"{where}: its last layer ({final.media_type}, {final.size:,} bytes) is not one that "
            "`wheelyard push` writes without --compression; publish the base with gzip layers"
        )
    texts = _texts(read("blobs", final.digest), (LOCK, CONSTRAINTS), where)
    if LOCK not in texts:
        raise ProjectError(
            f"{where} does not hold /{LOCK}: it was published by an older wheelyard, or is itself "
            "an image of a project; publish the base again, and base the project on an image of "
            "the set"
        )
    content: Any = json.loads(config_text)
    return BaseImage(
        reference=reference,
        digest=digest,
        manifest=json.loads(manifest_text),
        config=content,
        wheels=_wheels(texts[LOCK], facts.id, where),
        constraints=tuple(_lines(texts.get(CONSTRAINTS, ""))),
        overrides=facts.overrides,
        python=facts.python,
        platform=_platform(content, where),
    )


class _Facts(CellLabel):
    overrides: tuple[str, ...] = ()


def _facts(label: str | None, where: str) -> _Facts:
    """Read the label by which an image of a set says what it is."""
    if label is None:
        raise ProjectError(
            f"{where} is not an image of a wheelyard set: it has no label {CELL_LABEL}. Use one of "
            "the set (`wheelyard plan` lists them)"
        )
    try:
        return read_document(_Facts, label)
    except UnreadableError as error:
        raise ProjectError(f"{where}: its label {CELL_LABEL} cannot be read ({error})") from error


def _platform(config: Mapping[str, Any], where: str) -> str:
    """Return the platform of the wheels that the image's Debian runs, from its history."""
    machine = str(config.get("architecture", DEFAULT.name))
    if machine not in ARCHITECTURES:
        raise ProjectError(f"{where} is for {machine}; images are for {', '.join(ARCHITECTURES)}")
    for step in config.get("history") or ():
        if found := _SUITE.match(str(step.get("created_by", ""))):
            try:
                return wheel_platform(Base("", found[1], "", architecture=machine))
            except LockError as error:
                raise ProjectError(f"{where}: {error}") from error
    return wheel_platform(Base("", _OLDEST, "", architecture=machine))


def _wheels(text: str, cell_id: str, where: str) -> tuple[LockedWheel, ...]:
    try:
        wheels = parse_requirements_lock(text, PurePosixPath(f"/{LOCK}"), cell_id).wheels
    except LockError as error:
        raise ProjectError(f"{where}: {error}") from error
    if strange := [w.filename for w in wheels if "/" in w.filename or not is_plain(w.filename)]:
        raise ProjectError(f"{where}: {strange[0][:80]!r} is not the name of a wheel's file")
    return wheels


def _lines(text: str) -> list[str]:
    plain = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in plain if line]


def _texts(blob: bytes, wanted: tuple[str, ...], where: str) -> dict[str, str]:
    """Return the text files of a layer, by path; the layer is not trusted."""
    found = {}
    with unreadable(lambda why: ProjectError(f"{where}: its last layer cannot be read ({why})")):
        archive = open_tar(io.BytesIO(inflated_all(blob, _TAR_MAX)), "r:")
        for info in archive:
            name = info.name.removeprefix("./")
            if name in wanted and info.isreg() and info.size <= _TEXT_MAX:
                content = archive.extractfile(info)
                found[name] = content.read().decode() if content else ""
    return found


@dataclass(frozen=True, slots=True)
class FoundBase:
    """The base image, and the layout that holds its layers; None: only a registry has them."""

    image: BaseImage
    layout: Layout | None


def find_base(
    lock: ProjectLock,
    registry: Registry | None,
    dist: Path,
    context: Context,
    trust: Trust | None = None,
) -> FoundBase:
    """Return the image that the project was locked for, from the registry, else from `dist`.

    Raises ProjectError if neither has it, or has another one under its name.
    """
    digest = lock.base_digest or None
    layout = Layout(dist)
    if registry is not None:
        documents = Documents(context.settings.cache_dir)
        try:
            base = base_from_registry(registry, lock.base, documents, digest=digest, trust=trust)
            return _locked(FoundBase(base, _holding(layout, base)), lock)
        except ProjectError:
            if not _has(layout, lock):
                raise
    return _locked(FoundBase(base_from_layout(layout, lock.base, digest=digest), layout), lock)


def _has(layout: Layout, lock: ProjectLock) -> bool:
    if lock.base_digest:
        return layout.blob(lock.base_digest).is_file()
    return lock.base in layout.references()


def _holding(layout: Layout, base: BaseImage) -> Layout | None:
    """Return the layout if it holds every layer of the base."""
    blobs = (layout.blob(layer["digest"]) for layer in base.manifest["layers"])
    return layout if all(blob.is_file() for blob in blobs) else None


def _locked(found: FoundBase, lock: ProjectLock) -> FoundBase:
    if base_contents(found.image) != lock.contents:
        raise ProjectError(
            f"{lock.base} has changed since the project was locked; run `wheelyard lock` again"
        )
    return found
