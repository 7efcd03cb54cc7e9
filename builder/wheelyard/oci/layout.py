"""An OCI image layout on disk: blobs by digest, and an index of references.

`manifest.json` is written as well, through which `docker load` of engines before 25 finds the same
blobs. A name that images of several architectures share (NAME beside NAME-arm64) leads to an image
index, as in a registry. Source: OCI image-spec 1.1, image-layout.md; moby image/spec/v1.2.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.architecture import ARCHITECTURES, DEFAULT
from wheelyard.digests import Digest
from wheelyard.errors import StorageError
from wheelyard.system.storage import damaged, file_digest, link_or_copy, put, remove, storage_error
from wheelyard.system.textfiles import write_text

if TYPE_CHECKING:
    from wheelyard.oci.blobs import StoredLayer

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
ZSTD_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to a blob, as manifests hold it."""

    media_type: str
    digest: str
    size: int  # bytes

    def as_json(self) -> dict[str, Any]:
        """Return the descriptor in OCI's spelling."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


def canonical(value: object) -> bytes:
    """Return JSON whose bytes depend on nothing but the content."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def image_index(images: Mapping[str, Descriptor]) -> bytes:
    """Return the index of images by architecture, the default one's first."""
    manifests = [
        images[name].as_json() | {"platform": {"architecture": name, "os": "linux"}}
        for name in ARCHITECTURES
        if name in images
    ]
    return canonical({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests})


def digest_of(data: bytes) -> str:
    """Return the digest of a blob with this content: `sha256:<hex>`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Layout:
    """An image layout folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = folder / "blobs" / "sha256"

    def create(self) -> None:
        """Make the folder; raise StorageError if it holds something else or cannot be written."""
        try:
            self.blobs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, self.folder.parent) from error
        write_text(self.folder / "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}))

    def blob(self, digest: str) -> Path:
        """Return the path of a blob, whether or not it exists; DigestError for a bad digest."""
        return self.blobs / Digest.parse(digest).sha256

    def put(self, data: bytes, media_type: str) -> Descriptor:
        """Store a small blob."""
        digest = digest_of(data)
        target = self.blob(digest)
        try:
            is_there = target.read_bytes() == data
        except OSError:
            is_there = False
        if not is_there:
            if target.is_dir():
                remove(target)
            write_text(target, data.decode())
        return Descriptor(media_type, digest, len(data))

    def put_layer(self, stored: StoredLayer) -> None:
        """Take a layer from the store: a hard link, or a copy on another file system.

        Raises StorageError for a full disk, and for a blob that is damaged in the store.
        """
        layer = stored.layer
        target = self.blob(layer.digest)
        if not _is_whole(target, stored):
            partial = target.with_name(f".{target.name}.{os.getpid()}.part")
            partial.unlink(missing_ok=True)
            try:
                link_or_copy(stored.path, partial)
                is_copy = not partial.samefile(stored.path)
                if is_copy and file_digest(partial) != layer.digest:
                    raise damaged(stored.path, f"it is not {layer.digest}")
                put(partial, target)
            except OSError as error:
                raise storage_error(error, self.folder, layer.size) from error
            finally:
                partial.unlink(missing_ok=True)

    def read_json(self, digest: str) -> Any:
        """Read a manifest or config; StorageError if it is missing or does not match its digest."""
        try:
            data = self.blob(digest).read_bytes()
        except FileNotFoundError:
            raise StorageError(f"{self.folder}: blob {digest} is missing; build again") from None
        except OSError as error:
            raise storage_error(error) from error
        if digest_of(data) != digest:
            raise damaged(self.blob(digest), f"it is not {digest}")
        return json.loads(data)

    def read_image(self, digest: str) -> tuple[Any, Any]:
        """Read the manifest of an image and its config, as `read_json` does."""
        manifest = self.read_json(digest)
        return manifest, self.read_json(manifest["config"]["digest"])

    def references(self) -> dict[str, Descriptor]:
        """Return reference name -> manifest from the index; raise StorageError if it is damaged.

        Of a name that several architectures share, the default one's.
        """
        path = self.folder / "index.json"
        try:
            listed = _references(json.loads(path.read_text()))
            return {name: self._of_default(found) for name, found in listed.items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise storage_error(error) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StorageError(
                f"{path}: damaged ({error!r}); the next `wheelyard build` into this folder makes "
                "it again"
            ) from None

    def repair(self, known: Mapping[str, str]) -> list[str]:
        """Rewrite the index if it, or a manifest that it lists, is damaged.

        `known` (reference name -> manifest's digest) replaces an index that cannot be read. Returns
        the names that had to be removed, because their images are not complete.
        """
        lost: list[str] = []
        whole: dict[str, Descriptor] = {}
        try:
            listed = {name: x.digest for name, x in self.references().items()}
            is_read = True
        except StorageError:
            listed, is_read = dict(known), False
        for name, digest in listed.items():
            try:
                list(self._closure(digest))
            except (StorageError, KeyError, TypeError):
                lost.append(name)
            else:
                whole[name] = Descriptor(MANIFEST_TYPE, digest, self.blob(digest).stat().st_size)
        if lost or not is_read:
            self.set_references(whole)
        return lost

    def set_references(self, references: dict[str, Descriptor]) -> None:
        """Replace the index, and with it the list that `docker load` reads."""
        shared = self._shared(references)
        manifests = [
            {**shared.get(name, descriptor).as_json(), "annotations": {REF_NAME: name}}
            for name, descriptor in sorted(references.items())
        ]
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}
        docker = [
            self._docker_entry(digest, names) for digest, names in _by_digest(references).items()
        ]
        write_text(self.folder / "manifest.json", json.dumps(docker, indent=1) + "\n")
        write_text(self.folder / "index.json", json.dumps(index, indent=1) + "\n")

    def prune(self) -> int:
        """Remove blobs that no reference leads to; return the number of freed bytes."""
        wanted = {
            digest for entry in self.references().values() for digest in self._closure(entry.digest)
        } | self.indexes()
        freed = 0
        for path in self.blobs.iterdir():
            is_ours = re.fullmatch(r"[0-9a-f]{64}|\..+\.part", path.name)
            if is_ours and f"sha256:{path.name}" not in wanted:
                freed += path.stat().st_size
                remove(path)
        return freed

    def indexes(self) -> set[str]:
        """Write the image indexes that names lead to, and return their digests."""
        return {found.digest for found in self._shared(self.references()).values()}

    def _shared(self, references: Mapping[str, Descriptor]) -> dict[str, Descriptor]:
        """Write an index for every name whose image has siblings for other architectures."""
        others = [name for name in ARCHITECTURES if name != DEFAULT.name]
        indexes: dict[tuple[str, ...], Descriptor] = {}
        shared = {}
        for name, own in references.items():
            siblings = {x: _sibling(name, x) for x in others}
            images = {x: references[tag] for x, tag in siblings.items() if tag in references}
            images[DEFAULT.name] = own
            key = tuple(image.digest for image in images.values())
            if len(images) == 1:
                continue
            if key not in indexes and all(self._is_for(x, images[x]) for x in images):
                indexes[key] = self.put(image_index(images), INDEX_TYPE)
            if key in indexes:
                shared[name] = indexes[key]
        return shared

    def _is_for(self, architecture: str, image: Descriptor) -> bool:
        """Tell whether an image's config names the architecture; a damaged one names none."""
        try:
            return bool(self.read_image(image.digest)[1]["architecture"] == architecture)
        except (StorageError, ValueError, KeyError, TypeError):
            return False

    def _of_default(self, found: Descriptor) -> Descriptor:
        """Return the default architecture's image of an index; a manifest as it is."""
        if found.media_type != INDEX_TYPE:
            return found
        for entry in self.read_json(found.digest)["manifests"]:
            if entry["platform"]["architecture"] == DEFAULT.name:
                return Descriptor(entry["mediaType"], Digest.parse(entry["digest"]), entry["size"])
        raise ValueError(f"{found.digest} has no image for {DEFAULT.name}")

    def _closure(self, manifest: str) -> Iterable[str]:
        content = self.read_json(manifest)
        yield manifest
        yield content["config"]["digest"]
        yield from (layer["digest"] for layer in content["layers"])

    def _docker_entry(self, manifest: str, names: Sequence[str]) -> dict[str, Any]:
        content = self.read_json(manifest)
        return {
            "Config": _path(content["config"]["digest"]),
            "RepoTags": list(names),
            "Layers": [_path(layer["digest"]) for layer in content["layers"]],
        }


def _is_whole(target: Path, stored: StoredLayer) -> bool:
    """Tell whether `target` is complete: the store's own file, or a copy with the right bytes."""
    if not target.exists():
        return False
    status, source = target.stat(), stored.path.stat()
    if status.st_dev == source.st_dev:
        return status.st_ino == source.st_ino
    return status.st_size == stored.layer.size and file_digest(target) == stored.layer.digest


def _references(index: Mapping[str, Any]) -> dict[str, Descriptor]:
    references = {}
    for entry in index["manifests"]:
        if REF_NAME not in entry.get("annotations", {}):
            continue
        name, kind, size = entry["annotations"][REF_NAME], entry["mediaType"], entry["size"]
        if not (isinstance(name, str) and isinstance(kind, str) and type(size) is int):
            raise ValueError("not a descriptor")
        references[name] = Descriptor(kind, Digest.parse(entry["digest"]), size)
    return references


def _sibling(name: str, architecture: str) -> str:
    """Return the tag of the same image for another architecture; `latest` is not part of it."""
    stem = name.removesuffix("latest") if name.endswith(":latest") else f"{name}-"
    return f"{stem}{architecture}"


def _path(digest: str) -> str:
    return f"blobs/sha256/{Digest.parse(digest).sha256}"


def _by_digest(references: dict[str, Descriptor]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, descriptor in sorted(references.items()):
        groups.setdefault(descriptor.digest, []).append(name)
    return groups
