"""The cache of layers: blobs by digest, and which key gave which blob.

A blob gets its final name only when it is complete and hashed; whoever finds the name may use the
bytes. Nothing waits for the disk: a blob that may have been written to since, or that was written
before the machine was last started, is hashed again before it is used. Records and tables of
contents carry a checksum: what does not match it is made again.
"""

from __future__ import annotations

import hashlib
import json
import uuid
import weakref
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
from wheelyard.system.links import link_or_copy
from wheelyard.system.storage import REFUSED, file_digest, put, remove, storage_error
from wheelyard.system.textfiles import write_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.layers.toc import Entry

    Seen = list[int | str]

# What a record raises that is none, whatever else it may be.
_NO_RECORD = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


class LayerStore:
    """Layers under one folder; safe for several processes at once, in containers of their own."""

    def __init__(self, folder: Path) -> None:
        """Make the folders that are missing; StorageError where that is refused."""
        self.blobs = folder / "blobs" / "sha256"
        self._records = folder / "layers"
        self._scratch = folder / "tmp"
        self._claimed: Path | None = None
        try:
            for path in (self.blobs, self._records, self._scratch):
                path.mkdir(parents=True, exist_ok=True)
            sweep(self._scratch)
        except OSError as error:
            if error.errno not in REFUSED or not self.blobs.is_dir():  # what is there can be read
                raise storage_error(error, folder) from error

    def scratch(self) -> Path:
        """A new path for a blob in the making, in a folder that goes with this process."""
        if self._claimed is None:
            self._claimed, release = claim_folder(self._scratch)
            weakref.finalize(self, release)
        return self._claimed / uuid.uuid4().hex

    def blob(self, digest: str) -> Path:
        """Where the blob of that digest lies, or would."""
        return self.blobs / Digest.parse(digest).sha256

    def find(self, key: str, *, prove: bool = False) -> StoredLayer | None:
        """The layer made for `key`, if it is whole; a damaged one is thrown away.

        With `prove` the blob is hashed even if nobody seems to have written to it.
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
            with suppress(StorageError):  # in a cache that is only read it is hashed again
                self._write_record(key, layer)
        return StoredLayer(layer, path, key)

    def forget(self, digest: str) -> None:
        """Throw a damaged blob away, and what was written down of it."""
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

    def lend(self, key: str, other: LayerStore) -> None:
        """Let `other` have the layer of `key`, if it is here and whole; its blob is hashed."""
        stored = self.find(key, prove=True)
        if stored is None or other.find(key) is not None:
            return
        digest, scratch = stored.layer.digest, other.scratch()
        contents = toc.dump(self.entries(stored.layer), digest)
        link_or_copy(stored.path, scratch)
        toc.beside(scratch).write_text(contents)
        other.add(key, scratch, stored.layer)

    def entries(self, layer: Layer) -> list[Entry]:
        """The table of contents of a stored blob; made again from the blob where it is damaged.

        Raises StorageError where that is damaged or missing, too.
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
    """What `_render_record` wrote; one of _NO_RECORD for anything else."""
    data = json.loads(text)
    layer, seen = parse_layer(data["layer"]), data["seen"]
    if data["sum"] != _sum(key, layer, seen):
        raise ValueError(f"the record of {key} is damaged")
    return layer, seen


def _sum(key: str, layer: Layer, seen: Seen) -> str:
    return hashlib.sha256(json.dumps([key, asdict(layer), seen]).encode()).hexdigest()


def known_sizes(folder: Path) -> Callable[[str], int | None]:
    """Look up a layer's compressed size by its key, as its record has it; nothing is verified."""

    def size(key: str) -> int | None:
        try:
            return _parse_record((folder / "layers" / f"{key}.json").read_text(), key)[0].size
        except _NO_RECORD:
            return None

    return size


def _fingerprint(path: Path) -> Seen:
    """Equal as long as nobody wrote to the file, gave it a name more or cut the power."""
    status = path.stat()
    return [
        status.st_size, status.st_mtime_ns, status.st_ino, _boot(),
        status.st_nlink, status.st_ctime_ns,
    ]  # fmt: skip


def _is_untouched(seen: Seen, now: Seen) -> bool:
    """Whether the file's times tell that nobody wrote to it.

    Its time of change tells of writers who set the other one back, and also moves when an image
    layout takes a link to the file or gives one up: then the number of names is another one.
    """
    return now == seen or (now[:4] == seen[:4] and now[4] != seen[4])


@cache
def _boot() -> str:
    """What the kernel calls this start of the machine; empty where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
