"""Imports a bundle: every blob is hashed while it is copied, and named when all of it is right."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from pydantic import Field

from wheelyard.architecture import DEFAULT
from wheelyard.contract.imageconfig import CELL_LABEL
from wheelyard.digests import Digest, DigestError
from wheelyard.errors import SignatureError, StorageError, unreadable
from wheelyard.images.build.report import LOCK_NAME, merge_report, read_report
from wheelyard.images.build.report import NAME as REPORT
from wheelyard.oci.documents import (
    BaseName,
    Bytes,
    CellLabel,
    ConfigDocument,
    Document,
    ImageIndex,
    ImageManifest,
    ImageTag,
    Index,
    Sha256,
    UnreadableError,
    image_tag,
    read_document,
)
from wheelyard.oci.layout import (
    CONFIG_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    REF_NAME,
    Descriptor,
    Layout,
    digest_of,
)
from wheelyard.publish.attest.signing import Signature, fault
from wheelyard.publish.bundle import INDEX, SIGNATURES, SIGNED, signed_name
from wheelyard.system.filelock import locked, once
from wheelyard.system.storage import file_digest, free_bytes, no_space, storage_error
from wheelyard.system.tarfiles import open_tar

if TYPE_CHECKING:
    from wheelyard.console.tasks import Reporter, Task
    from wheelyard.publish.attest.keys import PublicKey

_READ = 1 << 20
_LARGEST_MANIFEST = 4 << 20  # bytes
_SMALL = 16 << 20  # bytes: more than any index, manifest or config has
_ADVICE = "copy the bundle again, or make it again with `wheelyard push --layout`"


class _Bundle(Protocol):
    """A bundle's files by name: `blobs/sha256/...`, `index.json`."""

    def size(self, name: str) -> int | None:
        """Return the size of a regular file; None if there is none."""

    def open(self, name: str) -> IO[bytes]:
        """Return its content; only for files that have a size."""


@dataclass(frozen=True, slots=True)
class Imported:
    """An image that is now in the layout."""

    manifest: Descriptor
    tags: tuple[str, ...]
    new_bytes: int  # of blobs that were missing


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def size(self, name: str) -> int | None:
        path = self._folder / name
        return path.stat().st_size if path.is_file() else None

    def open(self, name: str) -> IO[bytes]:
        return (self._folder / name).open("rb")


class _Tar:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        # `tar -c .` writes names with `./` before them.
        self._members = {x.name.removeprefix("./"): x for x in archive if x.isreg()}

    def size(self, name: str) -> int | None:
        return self._members[name].size if name in self._members else None

    def open(self, name: str) -> IO[bytes]:
        file = self._archive.extractfile(self._members[name])
        assert file is not None  # noqa: S101 - it is a regular file
        return file


class _Signed(Document):
    file: str
    payload: str
    signature: str


class _Signatures(Document):
    """The signatures that `bundle.py` writes beside the index."""

    signatures: tuple[_Signed, ...] = Field(max_length=64)


class _ReportLayer(Document):
    title: str
    digest: Sha256
    diff_id: Sha256
    size: Bytes
    unpacked_size: Bytes


class _ReportImage(CellLabel):
    """An image of `build.json`: the fields that are read."""

    tags: tuple[ImageTag, ...] = Field(min_length=1, max_length=64)
    base: BaseName
    digest: Sha256
    config: Sha256
    compressed_bytes: Bytes
    unpacked_bytes: Bytes
    layers: tuple[_ReportLayer, ...] = Field(max_length=512)
    inspected: dict[str, str] = Field(default_factory=dict, max_length=100)


class _Report(Document):
    images: list[Any] = Field(max_length=4096)


def import_bundle(
    source: Path, layout: Layout, reporter: Reporter, keys: Sequence[PublicKey] = ()
) -> tuple[Imported, ...]:
    """Import the images of a bundle (tar or folder) into `layout`, which keeps its own.

    With `keys`, its index and report must be signed by one of them; then inspection results are
    imported, too. Raises StorageError for a malformed or damaged bundle, and for a full disk;
    SignatureError.
    """
    layout.create()
    waiting = once(lambda: reporter.info(f"waiting for a build that is writing to {layout.folder}"))
    with locked(layout.folder / LOCK_NAME, waiting), _open(source) as bundle:
        files = {name: _small(bundle, name) for name in (INDEX, REPORT, SIGNATURES)}
        if keys:
            _require_signed(files, keys, source)
        tagged = _index(bundle, files[INDEX], source)
        images = []
        for manifest, tags in tagged.items():
            new = _take_image(bundle, layout, manifest, tags[0], reporter)
            images.append(Imported(manifest, tags, new))
        references = layout.references()
        references |= {tag: image.manifest for image in images for tag in image.tags}
        layout.set_references(references)
        entries = _report(files[REPORT], layout, tagged, trusted=bool(keys))
        merge_report(layout.folder, entries, {x.digest for x in references.values()})
    return tuple(images)


def _require_signed(files: Mapping[str, bytes], keys: Sequence[PublicKey], source: Path) -> None:
    try:
        made = read_document(_Signatures, files[SIGNATURES] or '{"signatures": []}').signatures
    except UnreadableError as error:
        raise SignatureError(f"{source}: its {SIGNATURES} cannot be read: {error}") from error
    for name in SIGNED:
        signatures = [Signature(x.payload.encode(), x.signature) for x in made if x.file == name]
        faults = [fault(x, keys, signed_name(name), digest_of(files[name])) for x in signatures]
        if None not in faults:
            what = "; ".join(dict.fromkeys(filter(None, faults))) or "there is none"
            raise SignatureError(
                f"{source}: its {name} has no signature by this key: {what}. Do not use it before "
                "that is explained; `wheelyard push --layout --sign-key` signs a bundle"
            )


@contextmanager
def _open(source: Path) -> Iterator[_Bundle]:
    if source.is_dir():
        yield _Folder(source)
        return
    try:
        with source.open("rb") as file:
            with unreadable(lambda why: _no_tar(source, why)):
                bundle = _Tar(open_tar(file, "r:"))
            yield bundle
    except FileNotFoundError:
        raise StorageError(f"the bundle {source} does not exist") from None
    except (tarfile.TarError, EOFError) as error:
        raise _no_tar(source, str(error)) from error


def _no_tar(source: Path, why: str) -> StorageError:
    return StorageError(f"{source}: not a tar file, or cut short ({why}); {_ADVICE}")


def _index(bundle: _Bundle, data: bytes, source: Path) -> dict[Descriptor, tuple[str, ...]]:
    """Read every image and its tags."""
    tags: dict[Descriptor, tuple[str, ...]] = {}
    names: set[str] = set()
    try:
        for entry in read_document(Index, data).manifests:
            tag = image_tag(entry.annotation(REF_NAME))
            if tag in names:
                raise UnreadableError(f"{tag} is listed twice")
            names.add(tag)
            key = Descriptor(MANIFEST_TYPE, Digest.parse(entry.digest), entry.size)
            if entry.media_type == INDEX_TYPE:
                key = _of_default(bundle, key.digest)
            tags[key] = (*tags.get(key, ()), tag)
    except DigestError:
        raise
    except ValueError as error:
        raise StorageError(
            f"{source} is not a bundle of images: its index cannot be read ({error})"
        ) from error
    return tags


def _of_default(bundle: _Bundle, digest: str) -> Descriptor:
    """Return the default architecture's image of an image index; the others have tags, too."""
    data = _small(bundle, f"blobs/sha256/{Digest.parse(digest).sha256}")
    if digest_of(data) != digest:
        raise UnreadableError(f"the image index {digest} is missing or damaged")
    for entry in read_document(ImageIndex, data).manifests:
        if entry.platform is not None and entry.platform.fits(DEFAULT.name):
            return Descriptor(MANIFEST_TYPE, Digest.parse(entry.digest), entry.size)
    raise UnreadableError(f"the image index {digest} has no image for {DEFAULT.name}")


def _report(
    data: bytes, layout: Layout, tagged: Iterable[Descriptor], *, trusted: bool
) -> list[dict[str, Any]]:
    """Return the report's entries that agree with their images' manifests and configs.

    That a build has inspected them is a claim of the bundle's maker: it counts if it is signed, or
    if a build of this folder reports the same about the very same image.
    """
    here = {(x.get("id"), x.get("digest")): x.get("inspected") for x in read_report(layout.folder)}
    digests = {manifest.digest for manifest in tagged}
    entries = []
    try:
        listed = read_document(_Report, data).images
    except UnreadableError:
        return []
    for one in listed:
        try:
            image = read_document(_ReportImage, json.dumps(one))
        except UnreadableError:
            continue
        if image.digest in digests and _agrees(image, layout):
            seen = image.inspected if trusted else here.get((image.id, image.digest)) or {}
            kept = {"seconds": {}, "new_bytes": 0, "loaded": False}
            entries.append(image.model_dump(mode="json") | kept | {"inspected": seen})
    return entries


def _agrees(image: _ReportImage, layout: Layout) -> bool:
    """Tell whether an entry describes the image of its digest: its layers, and its cell."""
    manifest = read_document(ImageManifest, layout.blob(image.digest).read_bytes())
    config = read_document(ConfigDocument, layout.blob(manifest.config.digest).read_bytes())
    try:
        label = read_document(CellLabel, config.label(CELL_LABEL) or "")
    except UnreadableError:
        return False
    layers = zip(manifest.layers, config.rootfs.diff_ids, strict=True)
    blobs = [(blob.digest, blob.size, diff_id) for blob, diff_id in layers]
    return (
        image.config == manifest.config.digest
        and blobs == [(x.digest, x.size, x.diff_id) for x in image.layers]
        and all(value == getattr(image, name) for name, value in label)
    )


def _small(bundle: _Bundle, name: str) -> bytes:
    """Read one of the bundle's own files; empty if there is none of a permitted size."""
    size = bundle.size(name)
    if size is None or size > _SMALL:
        return b""
    with bundle.open(name) as file:
        return file.read(_SMALL)


def _take_image(
    bundle: _Bundle, layout: Layout, manifest: Descriptor, tag: str, reporter: Reporter
) -> int:
    if manifest.size > _LARGEST_MANIFEST:
        raise StorageError(
            f"{tag} in the bundle has a manifest of {manifest.size} bytes; {_ADVICE}"
        )
    new = _missing(layout, manifest)
    _take(bundle, layout, manifest, None)
    try:
        content = read_document(ImageManifest, layout.blob(manifest.digest).read_bytes())
    except UnreadableError as error:
        raise StorageError(
            f"{tag} in the bundle is not an image manifest ({error}); {_ADVICE}"
        ) from error
    blobs = [
        Descriptor(x.media_type or CONFIG_TYPE, x.digest, x.size)
        for x in (content.config, *content.layers)
    ]
    if content.config.size > _LARGEST_MANIFEST:
        raise StorageError(
            f"{tag} in the bundle has no image's config, but a larger file; {_ADVICE}"
        )
    needed = sum(_missing(layout, blob) for blob in blobs)
    free = free_bytes(layout.folder)
    if free is not None and needed > free:
        raise no_space(layout.folder, needed, str(layout.folder))
    with reporter.task(f"import {tag}", needed, "bytes") as task:
        for blob in blobs:
            _take(bundle, layout, blob, task)
    _check_config(layout, content, tag)
    return new + needed


def _check_config(layout: Layout, manifest: ImageManifest, tag: str) -> None:
    """Check the layers' order: engines find a layer's tar by its blob's place in the manifest."""
    try:
        config = read_document(ConfigDocument, layout.blob(manifest.config.digest).read_bytes())
    except UnreadableError as error:
        raise StorageError(f"{tag} in the bundle has no valid image config ({error})") from error
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        raise StorageError(f"{tag} in the bundle: its config has another number of layers")


def _missing(layout: Layout, blob: Descriptor) -> int:
    """Return the bytes to copy: 0 if a file of that name and size exists already."""
    return 0 if _is_there(layout, blob) else blob.size


def _is_there(layout: Layout, blob: Descriptor) -> bool:
    path = layout.blob(blob.digest)
    return path.is_file() and path.stat().st_size == blob.size


def _take(bundle: _Bundle, layout: Layout, blob: Descriptor, task: Task | None) -> None:
    target, name = layout.blob(blob.digest), f"blobs/sha256/{Digest.parse(blob.digest).sha256}"
    if _is_there(layout, blob):
        if file_digest(target) == blob.digest:
            return
        target.unlink()  # damaged here; the bundle has it intact
    if bundle.size(name) != blob.size:
        raise StorageError(f"{blob.digest} is incomplete in the bundle; {_ADVICE}")
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    hashed = hashlib.sha256()
    try:
        with bundle.open(name) as source, partial.open("wb") as file:
            while data := source.read(_READ):
                hashed.update(data)
                file.write(data)
                if task is not None:
                    task.advance(len(data))
        if f"sha256:{hashed.hexdigest()}" != blob.digest:
            raise StorageError(f"{blob.digest} in the bundle is damaged; {_ADVICE}")
        partial.chmod(0o444)
        partial.replace(target)
    except OSError as error:
        raise storage_error(error, layout.folder, blob.size) from error
    finally:
        partial.unlink(missing_ok=True)
