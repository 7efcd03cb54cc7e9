"""Bundles for machines without a network: an OCI image layout as one tar file, or as a folder."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import StorageError
from wheelyard.images.build.report import NAME as REPORT
from wheelyard.images.build.report import merge_report, read_report
from wheelyard.oci.archive import ArchiveMember, archive_size, stream
from wheelyard.oci.layout import Descriptor, Layout, digest_of
from wheelyard.publish.attest.signing import make_signature
from wheelyard.registry.push import Publication, image_blobs
from wheelyard.system.storage import damaged, file_digest, link_or_copy, storage_error
from wheelyard.system.textfiles import write_text

if TYPE_CHECKING:
    from wheelyard.console.tasks import Reporter, Task
    from wheelyard.publish.attest.keys import PrivateKey

_SUFFIX = ".tar"
INDEX = "index.json"
_FILES = ("oci-layout", INDEX, "manifest.json", REPORT)
SIGNATURES = "signatures.json"
SIGNED = (INDEX, REPORT)  # names and digests of its images, and their inspection results


def write_bundle(
    path: Path,
    layout: Layout,
    images: Sequence[Publication],
    reporter: Reporter,
    key: PrivateKey | None = None,
) -> int:
    """Write `images` of `layout` to `path` (`*.tar`: one file; else a folder); return its size.

    With `key` it contains signatures, which `import --verify-key` requires. Raises StorageError for
    a blob that is missing or damaged, for a full disk, and for a folder that cannot be made.
    """
    digests = _blobs(layout, images)
    size = sum(layout.blob(digest).stat().st_size for digest in digests)
    is_tar = path.suffix == _SUFFIX
    try:
        (path.parent if is_tar else path).mkdir(parents=True, exist_ok=True)  # before much is read
        with reporter.task(f"check {path.name}", size, "bytes") as task:
            _check(layout, digests, task)
        if not is_tar:
            _stage(Layout(path), layout, images, digests, link_or_copy)
            _sign(Layout(path), key)
            return size
        with tempfile.TemporaryDirectory() as folder:
            staged = Layout(Path(folder))
            _stage(staged, layout, images, digests, os.symlink)
            _sign(staged, key)
            return _write_tar(path, staged, [*sorted(staged.indexes()), *digests], reporter)
    except OSError as error:
        raise storage_error(error, path.parent, size) from error


def _blobs(layout: Layout, images: Iterable[Publication]) -> list[str]:
    """Yield every blob once, the manifests first: an importer reads them before anything else."""
    manifests = [image.manifest for image in images]
    below = (
        blob.digest
        for manifest in manifests
        for blob in image_blobs(layout, layout.read_json(manifest))
    )
    digests = list(dict.fromkeys([*manifests, *below]))
    for digest in digests:
        if not layout.blob(digest).is_file():
            raise StorageError(f"{layout.blob(digest)} is missing from the layout; build again")
    return digests


def _check(layout: Layout, digests: Iterable[str], task: Task) -> None:
    for digest in digests:
        if file_digest(layout.blob(digest)) != digest:
            raise damaged(layout.blob(digest), f"it is not {digest}")
        task.advance(layout.blob(digest).stat().st_size)


def _stage(
    target: Layout,
    source: Layout,
    images: Sequence[Publication],
    digests: Iterable[str],
    place: Callable[[Path, Path], None],
) -> None:
    target.create()
    for digest in digests:
        if not target.blob(digest).exists():
            place(source.blob(digest).resolve(), target.blob(digest))
    references = {
        tag: Descriptor(
            source.read_json(image.manifest)["mediaType"],
            image.manifest,
            source.blob(image.manifest).stat().st_size,
        )
        for image in images
        for tag in image.tags
    }
    target.set_references(references)
    wanted = {(image.id, image.manifest) for image in images}
    entries = [x for x in read_report(source.folder) if (x["id"], x["digest"]) in wanted]
    merge_report(target.folder, entries, ())


def signed_name(file: str) -> str:
    """Return the name for signatures of a bundle's file; no registry has such a repository."""
    return f"bundle/{file}"


def _sign(staged: Layout, key: PrivateKey | None) -> None:
    target = staged.folder / SIGNATURES
    if key is None:
        target.unlink(missing_ok=True)  # from an earlier bundle in that folder
        return
    made = []
    for name in SIGNED:
        signature = make_signature(
            key, signed_name(name), digest_of((staged.folder / name).read_bytes())
        )
        payload = signature.payload.decode()
        made.append({"file": name, "payload": payload, "signature": signature.value})
    write_text(target, json.dumps({"version": 1, "signatures": made}, indent=1) + "\n")


def _write_tar(path: Path, staged: Layout, digests: Sequence[str], reporter: Reporter) -> int:
    names = (*_FILES, *((SIGNATURES,) if (staged.folder / SIGNATURES).exists() else ()))
    sources = [*(staged.folder / name for name in names), *map(staged.blob, digests)]
    members = [
        ArchiveMember(str(file.relative_to(staged.folder)), file.stat().st_size, file)
        for file in sources
    ]
    total = archive_size(members)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with (
            partial.open("wb") as file,
            reporter.task(f"write {path.name}", total, "bytes") as task,
        ):
            for chunk in stream(members):
                file.write(chunk)
                task.advance(len(chunk))
        partial.replace(path)
    except OSError as error:
        if error.filename != str(partial) or error.filename2 is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # not the temporary file
    finally:
        with suppress(OSError):  # its folder may be a loop of links
            partial.unlink()
    return total
