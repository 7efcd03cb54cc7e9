"""The tar stream from which a container engine loads images, made while it is sent.

One tar serves every engine. `manifest.json` is what Docker's classic store reads ("Docker image
specification v1.2", combined image JSON); `index.json` and `oci-layout` are what the containerd
image store prefers (OCI image layout), which keeps the manifest's digest.

An engine on this machine gets its layers inflated: it would inflate them in one thread of Go, which
takes as long as everything else that it does with them.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from gzip import BadGzipFile
from pathlib import Path

from wheelyard.digests import Digest
from wheelyard.errors import StorageError
from wheelyard.layers.gzipmember import IsalError
from wheelyard.layers.layer import Layer
from wheelyard.oci.address import HUB
from wheelyard.oci.layout import MANIFEST_TYPE
from wheelyard.system.storage import damaged, is_file_of, storage_error
from wheelyard.system.tarfiles import open_gzip

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1 << 20
END = bytes(2 * _BLOCK)


@dataclass(frozen=True, slots=True)
class LoadableImage:
    """An image of an OCI layout, as far as an engine needs it; digests are `sha256:...`."""

    config: str  # digest; Docker's classic store uses it as the image's id
    layers: tuple[tuple[str, str], ...]  # (blob digest, diff_id), lowest first
    tags: tuple[str, ...]  # "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11"
    manifest: str | None = None  # digest; given, the containerd image store keeps it
    sizes: tuple[int, ...] = ()  # of the layers' uncompressed tars, bytes, if known

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """Digests of the layers' uncompressed tars, lowest first."""
        return tuple(diff_id for _blob, diff_id in self.layers)


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A file of the tar: bytes in memory, or a blob on disk that is read when it is sent."""

    name: str
    size: int
    source: bytes | Path
    inflated: bool = False  # the blob is gzip, and what it holds is sent


def shared_layers(wanted: Sequence[str], present: Iterable[Sequence[str]]) -> int:
    """Count the lowest layers that an engine has, in this order, at the bottom of an image.

    An engine stores a layer under the chain of all layers up to it, so only a common beginning
    counts (moby, image/tarexport/load.go).
    """
    return max((_common(wanted, other) for other in present), default=0)


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    pairs = zip(left, right, strict=False)
    return next(
        (index for index, (one, two) in enumerate(pairs) if one != two), min(len(left), len(right))
    )


def make_inflated_archive(
    blobs: Path, image: LoadableImage, omit: int = 0
) -> tuple[ArchiveMember, ...]:
    """Return the members of a tar for the classic store; layers are inflated while they are sent.

    The image's `sizes` must be known. Raises StorageError if a blob is missing.
    """
    return classic_archive(
        blobs, loadable_layers(image), blob_member(blobs, image.config), image.tags, omit
    )


def classic_archive(
    blobs: Path,
    layers: Sequence[Layer],
    config: ArchiveMember,
    tags: Sequence[str],
    omit: int,
    *,
    inflate: bool = True,
) -> tuple[ArchiveMember, ...]:
    """Return what Docker's classic store reads, and nothing else."""
    names = [blob_name(layer.diff_id if inflate else layer.digest) for layer in layers]
    entry = {"Config": config.name, "RepoTags": list(tags) or None, "Layers": names}
    bodies = {
        name: _inflated(blobs, layer) if inflate else blob_member(blobs, layer.digest)
        for name, layer in list(zip(names, layers, strict=True))[omit:]
    }
    return (json_member("manifest.json", [entry]), config, *bodies.values())


def _inflated(blobs: Path, layer: Layer) -> ArchiveMember:
    source = blob_member(blobs, layer.digest).source
    return ArchiveMember(blob_name(layer.diff_id), layer.unpacked_size, source, inflated=True)


def loadable_layers(image: LoadableImage) -> tuple[Layer, ...]:
    """Return the layers of an image whose `sizes` are known; the blobs' own sizes stay 0."""
    return tuple(
        Layer(digest, diff_id, 0, size)
        for (digest, diff_id), size in zip(image.layers, image.sizes, strict=True)
    )


def make_archive(blobs: Path, image: LoadableImage, omit: int = 0) -> tuple[ArchiveMember, ...]:
    """Return the members of the image's tar, without the blobs of its `omit` lowest layers.

    `blobs` is the layout's `blobs/sha256`. Raises StorageError if a blob is missing.
    """
    metadata = [json_member("manifest.json", [_docker_manifest(image)])]
    digests = [image.config, *(blob for blob, _diff_id in image.layers[omit:])]
    if image.manifest is not None:
        size = blob_member(blobs, image.manifest).size
        metadata += _oci_members(_oci_index(image, image.manifest, size))
        digests.insert(0, image.manifest)
    return (*metadata, *(blob_member(blobs, digest) for digest in dict.fromkeys(digests)))


def _oci_members(index: Mapping[str, object]) -> list[ArchiveMember]:
    layout = json_member("oci-layout", {"imageLayoutVersion": "1.0.0"})
    return [layout, json_member("index.json", index)]


def _docker_manifest(image: LoadableImage) -> dict[str, object]:
    """Return the image's entry in `manifest.json`."""
    return {
        "Config": blob_name(image.config),
        "RepoTags": list(image.tags) or None,
        "Layers": [blob_name(blob) for blob, _diff_id in image.layers],
    }


def _oci_index(image: LoadableImage, manifest: str, size: int) -> dict[str, object]:
    """Return `index.json`: one manifest entry per tag, named as containerd reads names."""
    descriptor = {"mediaType": MANIFEST_TYPE, "digest": manifest, "size": size}
    named = [descriptor | {"annotations": _names(tag)} for tag in image.tags]
    return {"schemaVersion": 2, "manifests": named or [descriptor]}


def _names(tag: str) -> dict[str, str]:
    return {
        "io.containerd.image.name": full_name(tag),
        "org.opencontainers.image.ref.name": tag.rpartition(":")[2],
    }


def full_name(tag: str) -> str:
    """Add the registry that Docker adds to a short name (reference/normalize.go)."""
    host, slash, _rest = tag.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        return tag
    return f"{HUB}/{tag}" if slash else f"{HUB}/library/{tag}"


def blob_name(digest: str) -> str:
    """Return the path of a blob in an OCI layout."""
    return f"blobs/{digest.replace(':', '/', 1)}"


def json_member(name: str, value: object) -> ArchiveMember:
    """Return a file that holds `value` as JSON."""
    content = json.dumps(value, sort_keys=True).encode()
    return ArchiveMember(name, len(content), content)


def blob_member(blobs: Path, digest: str) -> ArchiveMember:
    """Return a blob's file; raise StorageError if it is missing."""
    path = blobs / Digest.parse(digest).sha256
    try:
        return ArchiveMember(blob_name(digest), path.stat().st_size, path)
    except FileNotFoundError as error:
        raise StorageError(f"{path} is missing from the image layout; build it again") from error


def archive_size(members: Sequence[ArchiveMember]) -> int:
    """Return the length of what `stream` yields, in bytes."""
    return len(END) + sum(_BLOCK + -(-member.size // _BLOCK) * _BLOCK for member in members)


def stream(
    members: Sequence[ArchiveMember], before_end: Callable[[], object] | None = None
) -> Iterator[bytes]:
    """Yield the tar's bytes; raise StorageError if a blob has become shorter.

    `before_end` is called when everything but the tar's end is sent; an engine waits for that end.
    """
    for member in members:
        yield _header(member)
        if isinstance(member.source, bytes):
            yield member.source
        else:
            yield from _read(member.source, member.size, inflated=member.inflated)
        yield bytes(-member.size % _BLOCK)
    if before_end is not None:
        before_end()
    yield END


def _header(member: ArchiveMember) -> bytes:
    info = tarfile.TarInfo(member.name)
    info.size, info.mode = member.size, 0o644
    return info.tobuf(format=tarfile.GNU_FORMAT)


def _read(path: Path, size: int, *, inflated: bool) -> Iterator[bytes]:
    left = size
    try:
        with open_gzip(path) if inflated else path.open("rb") as file:
            while chunk := file.read(min(_CHUNK, left)):
                left -= len(chunk)
                yield chunk
    except (EOFError, IsalError, BadGzipFile) as error:
        raise damaged(path, str(error)) from error
    except OSError as error:
        raise storage_error(error) from error
    if left:
        raise damaged(path, "it is shorter than it was")


def require_whole(blobs: Path, digests: Iterable[str]) -> None:
    """Raise StorageError for the first blob that does not match its digest."""
    for digest in digests:
        path = blobs / digest.partition(":")[2]
        if path.exists() and not is_file_of(path, path.name):
            raise damaged(path, f"it is not {digest}")
