"""Packs layers in another way, once: as zstd, or as eStargz, which can be mounted unfinished.

The files stay the same. A layer is packed once; the cache finds it by the digest of the gzip blob,
so that what one machine has published stays the same blob there, whatever version of a library
comes later.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from gzip import BadGzipFile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.errors import StorageError, ToolMissingError
from wheelyard.layers import estargz, toc, zstdchunked
from wheelyard.layers.errors import BlobError
from wheelyard.layers.gzipmember import IsalError
from wheelyard.layers.layer import Layer
from wheelyard.oci.blobs import StoredLayer
from wheelyard.oci.layout import LAYER_TYPE, ZSTD_TYPE
from wheelyard.oci.reindex import reindex
from wheelyard.system.storage import damaged, file_digest, storage_error
from wheelyard.system.tarfiles import open_gzip
from wheelyard.system.threads import each

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.images.assemble.store import LayerStore
    from wheelyard.layers.toc import Entry


_LEVEL = 3  # torch 2.3.1's libraries: 39 % of the tar (gzip 47 %); level 9: 35 % in 4 x the time
_READ = 1 << 20


# From a gzip layer of a layout, the store, and an event that stops it: writes the blob to a path.
_Write = Callable[[StoredLayer, "LayerStore", Path, threading.Event], Layer]


@dataclass(frozen=True, slots=True)
class Packing:
    """One way of packing a layer."""

    name: str  # "zstd"
    version: str  # raised whenever its bytes change on purpose
    media_type: str
    write: _Write
    require: Callable[[], object]  # raises ToolMissingError where something is not installed
    annotate: Callable[[StoredLayer], Mapping[str, str]]  # of the layer's descriptor

    def key(self, digest: str) -> str:
        """Return the store's key of the layer that is packed from the blob `digest`."""
        return hashlib.sha256(f"{self.name} {self.version} {digest}".encode()).hexdigest()


def recompress(
    packing: Packing, layers: Sequence[StoredLayer], store: LayerStore, context: Context
) -> dict[str, StoredLayer]:
    """Return digest -> the same layer in another packing; pack those that the store lacks.

    Raises StorageError for a blob that is damaged and for a full disk, ToolMissingError without the
    extra `zstd` where it is needed.
    """
    packed = {
        x.layer.digest: stored
        for x in layers
        if (stored := store.find(packing.key(x.layer.digest)))
    }
    missing = list({x.layer.digest: x for x in layers if x.layer.digest not in packed}.values())
    if not missing:
        return packed
    packing.require()  # fails here, before any thread
    stop = threading.Event()
    name = f"{packing.name} layers"
    with context.reporter.task(name, sum(x.layer.size for x in missing), "bytes") as task:

        def pack(stored: StoredLayer) -> None:
            packed[stored.layer.digest] = _packed(packing, stored, store, stop)
            task.advance(stored.layer.size)

        missing.sort(key=lambda x: -x.layer.size)
        each(pack, missing, context.settings.workers, packing.name, stop)
    return packed


def _packed(
    packing: Packing, stored: StoredLayer, store: LayerStore, stop: threading.Event
) -> StoredLayer:
    scratch = store.scratch()
    try:
        made = packing.write(stored, store, scratch, stop)
        toc.beside(scratch).write_text(toc.dump([], made.digest))  # the gzip blob's serves both
        return store.add(packing.key(stored.layer.digest), scratch, made)
    except OSError as error:
        raise storage_error(error, scratch.parent, stored.layer.size) from error
    finally:
        scratch.unlink(missing_ok=True)


class _Stream:
    """The tar of a gzip blob: what was read is hashed, and reading ends when it is told to."""

    def __init__(self, file: Any, stop: threading.Event) -> None:
        self._file, self._stop = file, stop
        self._digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes; raise InterruptedError if the work was stopped."""
        if self._stop.is_set():
            raise InterruptedError
        data: bytes = self._file.read(size)
        self._digest.update(data)
        self.size += len(data)
        return data

    def require(self, stored: StoredLayer) -> None:
        """Read to the end; raise StorageError if it is not the layer's tar."""
        while self.read(_READ):
            pass
        if f"sha256:{self._digest.hexdigest()}" != stored.layer.diff_id:
            raise damaged(stored.path, f"the tar inside is not {stored.layer.diff_id}")


@contextmanager
def _tar(stored: StoredLayer, stop: threading.Event) -> Iterator[_Stream]:
    """Open the layer's tar; at the end of the block its digest is checked."""
    try:
        with open_gzip(stored.path) as file:
            stream = _Stream(file, stop)
            yield stream
            stream.require(stored)
    except (EOFError, IsalError, BadGzipFile) as error:
        raise damaged(stored.path, str(error)) from error
    except BlobError as error:
        raise damaged(stored.path, error.why) from error


def _write_zstd(
    stored: StoredLayer, store: LayerStore, scratch: Path, stop: threading.Event
) -> Layer:
    """Compress as zstd:chunked, or as one stream where podman could not make the tar again.

    The result depends only on the level and libzstd's version.
    """
    entries, packer = _entries(stored, store), zstd_library().ZstdCompressor(level=_LEVEL)
    made = None
    with _tar(stored, stop) as tar, suppress(zstdchunked.NotChunkedError, BlobError):
        made = zstdchunked.write_chunked(stored.path, entries, tar, scratch, packer)
    is_same = made is not None and made.diff_id == stored.layer.diff_id
    return made if made and is_same else _write_stream(stored, scratch, stop)


def _write_stream(stored: StoredLayer, scratch: Path, stop: threading.Event) -> Layer:
    packer = zstd_library().ZstdCompressor(level=_LEVEL)
    with _tar(stored, stop) as tar, scratch.open("wb") as file:
        while data := tar.read(_READ):
            file.write(packer.compress(data))
        file.write(packer.flush())
    return Layer(file_digest(scratch), stored.layer.diff_id, scratch.stat().st_size, tar.size)


def _write_estargz(
    stored: StoredLayer, store: LayerStore, scratch: Path, stop: threading.Event
) -> Layer:
    entries = _entries(stored, store)
    with _tar(stored, stop) as tar:
        return estargz.write_estargz(stored.path, entries, tar, scratch)


def _entries(stored: StoredLayer, store: LayerStore) -> list[Entry]:
    try:
        return store.entries(stored.layer)
    except StorageError:  # the store does not have it, the layout does
        return reindex(stored.path, stored.layer.digest, stored.layer.diff_id, lambda _: None)


def _of_estargz(stored: StoredLayer) -> dict[str, str]:
    return {
        estargz.TOC_DIGEST: estargz.toc_digest(stored.path),
        estargz.UNPACKED_SIZE: str(stored.layer.unpacked_size),
    }


def zstd_library() -> Any:
    """Return the library; raise ToolMissingError without the extra `zstd`."""
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            from backports import zstd  # type: ignore[no-redef,unused-ignore]
        except ImportError as error:
            raise ToolMissingError(
                "zstd layers need the Python package backports.zstd: pip install 'wheelyard[zstd]'"
            ) from error
    return zstd


ZSTD = Packing(
    "zstd", f"{_LEVEL} {zstdchunked.FORMAT}", ZSTD_TYPE, _write_zstd, zstd_library,
    lambda stored: zstdchunked.read_annotations(stored.path),
)  # fmt: skip
ESTARGZ = Packing(
    "estargz", str(estargz.FORMAT), LAYER_TYPE, _write_estargz, lambda: None, _of_estargz
)
PACKINGS = {packing.name: packing for packing in (ZSTD, ESTARGZ)}
