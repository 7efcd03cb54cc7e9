"""Taking a bundle in: every blob is hashed on its way, and named when all of it is right."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from builder.assemble.layout import CONFIG_TYPE, MANIFEST_TYPE, REF_NAME, Descriptor, Layout
from builder.building.report import LOCK_NAME, merge_report
from builder.building.report import NAME as REPORT
from builder.digests import Digest
from builder.errors import StorageError
from builder.system.filelock import locked, once
from builder.system.storage import file_digest, free_bytes, no_space, storage_error
from builder.system.tarfiles import open_tar

if TYPE_CHECKING:
    from builder.console.progress import Reporter, Task

_READ = 1 << 20
_SMALL = 16 << 20  # bytes: more than any index, manifest or config has
ADVICE = "copy the bundle again, or make it again with `wheelyard push --layout`"


class Bundle(Protocol):
    """A bundle's files by name: `blobs/sha256/...`, `index.json`."""

    def size(self, name: str) -> int | None:
        """Bytes of a regular file; None where there is none."""

    def open(self, name: str) -> IO[bytes]:
        """Its bytes; only for what has a size."""


@dataclass(frozen=True, slots=True)
class Imported:
    """An image that is now in the layout."""

    manifest: Descriptor
    tags: tuple[str, ...]
    new_bytes: int  # of blobs that were not there


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


def import_bundle(source: Path, layout: Layout, reporter: Reporter) -> tuple[Imported, ...]:
    """Take the images of a bundle (tar or folder) over into `layout`, which keeps what it has.

    Raises StorageError for a bundle that is not one or is damaged, and for a full disk.
    """
    layout.create()
    waiting = once(lambda: reporter.info(f"waiting: a build is writing to {layout.folder}"))
    with locked(layout.folder / LOCK_NAME, waiting), _open(source) as bundle:
        tagged = _index(bundle, source)
        images = []
        for manifest, tags in tagged.items():
            new = _take_image(bundle, layout, manifest, tags[0], reporter)
            images.append(Imported(manifest, tags, new))
        references = layout.references()
        references |= {tag: image.manifest for image in images for tag in image.tags}
        layout.set_references(references)
        digests = {image.manifest.digest for image in images}
        entries = [x for x in _report(bundle) if x.get("digest") in digests]
        merge_report(layout.folder, entries, {x.digest for x in references.values()})
    return tuple(images)


@contextmanager
def _open(source: Path) -> Iterator[Bundle]:
    if source.is_dir():
        yield _Folder(source)
        return
    try:
        with source.open("rb") as file, open_tar(file, "r:") as archive:
            yield _Tar(archive)
    except FileNotFoundError:
        raise StorageError(f"there is no bundle {source}") from None
    except (tarfile.TarError, EOFError) as error:
        raise StorageError(f"{source}: not a tar file, or cut short ({error}); {ADVICE}") from error


def _index(bundle: Bundle, source: Path) -> dict[Descriptor, tuple[str, ...]]:
    """Every image and its tags."""
    try:
        entries = json.loads(_small(bundle, "index.json"))["manifests"]
        found: dict[Descriptor, tuple[str, ...]] = {}
        for entry in entries:
            key = Descriptor(MANIFEST_TYPE, str(entry["digest"]), int(entry["size"]))
            found[key] = (*found.get(key, ()), str(entry["annotations"][REF_NAME]))
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{source} is no bundle of images: its index cannot be read") from error
    return found


def _report(bundle: Bundle) -> list[dict[str, Any]]:
    try:
        return list(json.loads(_small(bundle, REPORT))["images"])
    except (KeyError, TypeError, ValueError):
        return []


def _small(bundle: Bundle, name: str) -> bytes:
    size = bundle.size(name)
    if size is None or size > _SMALL:
        raise KeyError(name)
    with bundle.open(name) as file:
        return file.read()


def _take_image(
    bundle: Bundle, layout: Layout, manifest: Descriptor, tag: str, reporter: Reporter
) -> int:
    new = _missing(layout, manifest)
    _take(bundle, layout, manifest, None)
    try:
        content = layout.read_json(manifest.digest)
        blobs = [
            Descriptor(str(x.get("mediaType", CONFIG_TYPE)), str(x["digest"]), int(x["size"]))
            for x in (content["config"], *content["layers"])
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{tag} in the bundle is no image manifest; {ADVICE}") from error
    needed = sum(_missing(layout, blob) for blob in blobs)
    free = free_bytes(layout.folder)
    if free is not None and needed > free:
        raise no_space(layout.folder, needed, str(layout.folder))
    with reporter.task(f"import {tag}", needed, "bytes") as task:
        for blob in blobs:
            _take(bundle, layout, blob, task)
    return new + needed


def _missing(layout: Layout, blob: Descriptor) -> int:
    """Bytes to copy: none where a file of that name and size is there already."""
    path = layout.blob(blob.digest)
    return 0 if path.is_file() and path.stat().st_size == blob.size else blob.size


def _take(bundle: Bundle, layout: Layout, blob: Descriptor, task: Task | None) -> None:
    target, name = layout.blob(blob.digest), f"blobs/sha256/{Digest.parse(blob.digest).sha256}"
    if not _missing(layout, blob):
        if file_digest(target) == blob.digest:
            return
        target.unlink()  # it rotted here; the bundle has it whole
    if bundle.size(name) != blob.size:
        raise StorageError(f"the bundle does not hold {blob.digest} whole; {ADVICE}")
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
            raise StorageError(f"{blob.digest} in the bundle is damaged; {ADVICE}")
        partial.chmod(0o444)
        partial.replace(target)
    except OSError as error:
        raise storage_error(error, layout.folder, blob.size) from error
    finally:
        partial.unlink(missing_ok=True)
