"""The cache of layers: blobs by digest, and which key gave which blob.

A blob gets its final name only when it is complete and hashed; whoever finds the name may use the
bytes. Nothing waits for the disk: a blob whose size or time changed since, or that was written
before the machine was last started, is hashed again before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from builder.assemble import toc
from builder.assemble.layer import Layer
from builder.digests import Digest
from builder.system.links import link_or_copy
from builder.system.textfiles import write_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.assemble.toc import Entry

_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer in the store, and where its blob lies."""

    layer: Layer
    path: Path


class LayerStore:
    """Layers under one folder; safe for several processes at once."""

    def __init__(self, folder: Path) -> None:
        self.blobs = folder / "blobs" / "sha256"
        self._records = folder / "layers"
        self._scratch = folder / "tmp"
        for path in (self.blobs, self._records, self._scratch):
            path.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def scratch(self) -> Path:
        """A new path for a blob in the making; swept away if its process dies."""
        return self._scratch / f"{os.getpid()}-{uuid.uuid4().hex}"

    def blob(self, digest: str) -> Path:
        """Where the blob of that digest lies, or would."""
        return self.blobs / Digest.parse(digest).sha256

    def find(self, key: str) -> StoredLayer | None:
        """The layer made for `key`, if it is whole; a damaged one is thrown away."""
        record = self._records / f"{key}.json"
        try:
            data = json.loads(record.read_text())
            layer = Layer(**data["layer"])
            seen = data["seen"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        path = self.blob(layer.digest)
        if not self._toc(layer.digest).exists() or not path.exists():
            return None
        if fingerprint(path) != seen:
            if file_digest(path) != layer.digest:
                path.unlink(missing_ok=True)
                record.unlink(missing_ok=True)
                return None
            self._write_record(key, layer)
        return StoredLayer(layer, path)

    def add(self, key: str, scratch: Path, layer: Layer) -> StoredLayer:
        """Take over a finished blob and its table of contents from `scratch`."""
        path = self.blob(layer.digest)
        toc.beside(scratch).replace(self._toc(layer.digest))
        scratch.chmod(0o444)
        scratch.replace(path)
        self._write_record(key, layer)
        return StoredLayer(layer, path)

    def lend(self, key: str, other: LayerStore) -> None:
        """Let `other` have the layer of `key`, if it is here and whole."""
        stored = self.find(key)
        if stored is None or other.find(key) is not None:
            return
        digest, scratch = stored.layer.digest, other.scratch()
        link_or_copy(stored.path, scratch)
        link_or_copy(self._toc(digest), toc.beside(scratch))
        other.add(key, scratch, stored.layer)

    def entries(self, digest: str) -> list[Entry]:
        """The table of contents of a stored blob."""
        return toc.parse(self._toc(digest).read_text())

    def _toc(self, digest: str) -> Path:
        return self._records / f"{Digest.parse(digest).sha256}.toc.json"

    def _write_record(self, key: str, layer: Layer) -> None:
        seen = fingerprint(self.blob(layer.digest))
        text = json.dumps({"layer": asdict(layer), "seen": seen})
        write_text(self._records / f"{key}.json", text)

    def _sweep(self) -> None:
        """Remove what processes that are gone left half-made."""
        for path in self._scratch.iterdir():
            pid = path.name.partition("-")[0]
            if pid.isdigit() and not _alive(int(pid)):
                path.unlink(missing_ok=True)


def known_sizes(folder: Path) -> Callable[[str], int | None]:
    """Look up a layer's compressed size by its key, as its record has it; nothing is verified."""

    def size(key: str) -> int | None:
        try:
            data = json.loads((folder / "layers" / f"{key}.json").read_text())
            return int(data["layer"]["size"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    return size


def fingerprint(path: Path) -> list[int | str]:
    """Size, time, inode and boot: equal as long as nobody wrote to the file or cut the power."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino, _boot()]


@cache
def _boot() -> str:
    """What the kernel calls this start of the machine; empty where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def file_digest(path: Path) -> str:
    """`sha256:<hex>` of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_READ):
            digest.update(data)
    return f"sha256:{digest.hexdigest()}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
