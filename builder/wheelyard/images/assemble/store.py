"""The cache of layers: blobs by digest, and which key gave which blob.

A blob gets its final name only when it is complete and hashed, so a blob with a final name may be
used. Nothing waits for the disk: a blob that may have been changed since, or that was written
before the machine was last started, is hashed again before it is used. Records and tables of
contents carry a checksum; one that does not match is made again.
"""

from __future__ import annotations

import hashlib
import json
import uuid
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.digests import Digest
from wheelyard.errors import StorageError
from wheelyard.layers import toc
from wheelyard.layers.layer import Layer
from wheelyard.oci.blobs import StoredLayer, parse_layer
from wheelyard.oci.reindex import reindex
from wheelyard.system.filelock import claim_folder, sweep
from wheelyard.system.storage import REFUSED, file_digest, link_or_copy, put, remove, storage_error
from wheelyard.system.textfiles import write_text

if TYPE_CHECKING:
    from wheelyard.layers.toc import Entry

    Seen = list[int | str]

# What reading something that is not a record can raise.
_NO_RECORD = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


class LayerStore:
    """Layers in one folder; safe for several processes at once, even in separate containers."""

    def __init__(self, folder: Path) -> None:
        """Make the missing folders; raise StorageError if that is refused."""
        self.blobs = folder / "blobs" / "sha256"
        self._records = folder / "layers"
        self._scratch = folder / "tmp"
        self._claimed: Path | None = None
        try:
            for path in (self.blobs, self._records, self._scratch):
                path.mkdir(parents=True, exist_ok=True)
            sweep(self._scratch)
        except OSError as error:
            can_be_read = error.errno in REFUSED and self.blobs.is_dir()
            if not can_be_read:
                raise storage_error(error, folder) from error

    def scratch(self) -> Path:
        """Return a new path for an unfinished blob, in a folder that this process removes."""
        if self._claimed is None:
            self._claimed, release = claim_folder(self._scratch)
            weakref.finalize(self, release)
        return self._claimed / uuid.uuid4().hex

    def blob(self, digest: str) -> Path:
        """Return the path of the blob with that digest, whether or not it exists."""
        return self.blobs / Digest.parse(digest).sha256

    def find(self, key: str, *, prove: bool = False) -> StoredLayer | None:
        """Return the layer made for `key` if it is intact; remove a damaged one.

        With `prove`, hash the blob even if it seems unchanged.
        """
        try:
            layer, seen = _parse_record((self._records / f"{key}.json").read_text(), key)
        except _NO_RECORD:
            return None
        path = self.blob(layer.digest)
        try:
            now = _fingerprint(path)
            if (prove or not _is_untouched(seen, now)) and file_digest(path) != layer.digest:
                self.forget(layer.digest)
                return None
        except FileNotFoundError:
            return None
        except OSError:  # a folder, or a file that this user may not read
            self.forget(layer.digest)
            return None
        if now != seen:
            with suppress(StorageError):  # a read-only cache is hashed again next time
                self._write_record(key, layer)
        return StoredLayer(layer, path, key)

    def forget(self, digest: str) -> None:
        """Remove a damaged blob and the records about it."""
        path = self.blob(digest)
        try:
            remove(path)
            remove(self._toc(digest))
        except OSError as error:
            raise storage_error(error, path) from error

    def add(self, key: str, scratch: Path, layer: Layer) -> StoredLayer:
        """Take over a finished blob and its table of contents from `scratch`."""
        path = self.blob(layer.digest)
        put(toc.beside(scratch), self._toc(layer.digest))
        scratch.chmod(0o444)
        put(scratch, path)
        self._write_record(key, layer)
        return StoredLayer(layer, path, key)

    def copy_to(self, key: str, other: LayerStore) -> None:
        """Give `other` the layer of `key` if it is here and intact; its blob is hashed."""
        stored = self.find(key, prove=True)
        if stored is None or other.find(key) is not None:
            return
        digest, scratch = stored.layer.digest, other.scratch()
        contents = toc.dump(self.entries(stored.layer), digest)
        link_or_copy(stored.path, scratch)
        toc.beside(scratch).write_text(contents)
        other.add(key, scratch, stored.layer)

    def entries(self, layer: Layer) -> list[Entry]:
        """Return the table of contents of a stored blob; make it again if it is damaged.

        Raises StorageError if the blob is damaged or missing, too.
        """
        path = self._toc(layer.digest)
        try:
            return toc.parse(path.read_text(), layer.digest)
        except (OSError, ValueError):
            entries = self._reindexed(layer)
        remove(path)
        write_text(path, toc.dump(entries, layer.digest))
        return entries

    def _reindexed(self, layer: Layer) -> list[Entry]:
        try:
            return reindex(self.blob(layer.digest), layer.digest, layer.diff_id, lambda _: None)
        except StorageError:
            self.forget(layer.digest)
            raise

    def _toc(self, digest: str) -> Path:
        return self._records / f"{Digest.parse(digest).sha256}.toc.json"

    def _write_record(self, key: str, layer: Layer) -> None:
        path = self._records / f"{key}.json"
        if path.is_dir():
            remove(path)
        write_text(path, _render_record(key, layer, _fingerprint(self.blob(layer.digest))))


def _render_record(key: str, layer: Layer, seen: Seen) -> str:
    return json.dumps({"layer": asdict(layer), "seen": seen, "sum": _sum(key, layer, seen)})


def _parse_record(text: str, key: str) -> tuple[Layer, Seen]:
    """Read what `_render_record` wrote; raise one of `_NO_RECORD` for anything else."""
    data = json.loads(text)
    layer, seen = parse_layer(data["layer"]), data["seen"]
    if data["sum"] != _sum(key, layer, seen):
        raise ValueError(f"the record of {key} is damaged")
    return layer, seen


def _sum(key: str, layer: Layer, seen: Seen) -> str:
    return hashlib.sha256(json.dumps([key, asdict(layer), seen]).encode()).hexdigest()


def known_sizes(folder: Path) -> Callable[[str], int | None]:
    """Look up a layer's compressed size by its key, as recorded; nothing is verified."""

    def size(key: str) -> int | None:
        try:
            return _parse_record((folder / "layers" / f"{key}.json").read_text(), key)[0].size
        except _NO_RECORD:
            return None

    return size


def _fingerprint(path: Path) -> Seen:
    """Return values that stay equal until a write, a new hard link or a restart of the machine."""
    status = path.stat()
    return [
        status.st_size, status.st_mtime_ns, status.st_ino, _boot(),
        status.st_nlink, status.st_ctime_ns,
    ]  # fmt: skip


def _is_untouched(seen: Seen, now: Seen) -> bool:
    """Tell from the file's times whether its content is unchanged.

    The change time reveals writers who reset the modification time, but it also moves when an image
    layout adds or removes a hard link; then the number of links differs as well.
    """
    return now == seen or (now[:4] == seen[:4] and now[4] != seen[4])


@cache
def _boot() -> str:
    """Return the kernel's id of this start of the machine; empty if there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
