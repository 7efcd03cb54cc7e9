"""Recompresses layers as zstd: smaller, and unpacked in a fraction of the time.

The tar inside stays the same, and so do config and diff_ids; only the manifest differs. A layer is
compressed once; the cache finds it by the digest of the gzip blob, so that what one machine has
published stays the same blob there, whatever version of libzstd comes later.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from gzip import BadGzipFile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.errors import ToolMissingError
from wheelyard.layers import toc
from wheelyard.layers.gzipmember import IsalError
from wheelyard.layers.layer import Layer
from wheelyard.system.gunzip import open_gzip
from wheelyard.system.storage import damaged, storage_error
from wheelyard.system.threads import each

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.images.assemble.store import LayerStore
    from wheelyard.oci.blobs import StoredLayer

_LEVEL = (
    3  # of torch 2.3.1's libraries: 39 % of the tar, gzip has 47 %; level 9: 35 %, 4 x the time
)
_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class Packed:
    """A gzip layer of a layout."""

    digest: str
    diff_id: str
    size: int  # bytes
    path: Path


def recompress(
    layers: Sequence[Packed], store: LayerStore, context: Context
) -> dict[str, StoredLayer]:
    """Return digest -> the same layer as zstd; compress those that the store lacks.

    Raises StorageError for a blob that is damaged and for a full disk, ToolMissingError without the
    extra `zstd`.
    """
    packed = {x.digest: stored for x in layers if (stored := store.find(_key(x.digest)))}
    missing = list({x.digest: x for x in layers if x.digest not in packed}.values())
    if not missing:
        return packed
    _compressor(_LEVEL)  # fails here, before any thread
    stop = threading.Event()
    with context.reporter.task("zstd layers", sum(x.size for x in missing), "bytes") as task:

        def pack(layer: Packed) -> None:
            packed[layer.digest] = _packed(layer, store, stop)
            task.advance(layer.size)

        missing.sort(key=lambda x: -x.size)
        each(pack, missing, context.settings.workers, "zstd", stop)
    return packed


def is_packed(digest: str, store: LayerStore) -> bool:
    """Tell whether the store has the layer as zstd."""
    return store.find(_key(digest)) is not None


def _key(digest: str) -> str:
    return hashlib.sha256(f"zstd {_LEVEL} {digest}".encode()).hexdigest()


def _packed(layer: Packed, store: LayerStore, stop: threading.Event) -> StoredLayer:
    scratch = store.scratch()
    try:
        made = _write(layer, scratch, stop)
        toc.beside(scratch).write_text(toc.dump([], made.digest))  # the gzip blob's serves both
        return store.add(_key(layer.digest), scratch, made)
    except OSError as error:
        raise storage_error(error, scratch.parent, layer.size) from error
    finally:
        scratch.unlink(missing_ok=True)


def _unpacked(layer: Packed) -> Iterator[bytes]:
    try:
        with open_gzip(layer.path) as stream:
            while data := stream.read(_READ):
                yield data
    except (EOFError, IsalError, BadGzipFile) as error:
        raise damaged(layer.path, str(error)) from error


def _write(layer: Packed, scratch: Path, stop: threading.Event) -> Layer:
    pack, end = _compressor(_LEVEL)
    tar, blob = hashlib.sha256(), hashlib.sha256()
    sizes = [0, 0]
    with scratch.open("wb") as file:

        def write(data: bytes) -> None:
            file.write(data)
            blob.update(data)
            sizes[1] += len(data)

        for data in _unpacked(layer):
            if stop.is_set():
                raise InterruptedError
            tar.update(data)
            sizes[0] += len(data)
            write(pack(data))
        write(end())
    if f"sha256:{tar.hexdigest()}" != layer.diff_id:
        raise damaged(layer.path, f"the tar inside is not {layer.diff_id}")
    return Layer(f"sha256:{blob.hexdigest()}", layer.diff_id, sizes[1], sizes[0])


def _compressor(level: int) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    """Return two functions: one compresses a stream piece by piece, one ends it.

    One thread compresses one stream: the result depends only on the level and libzstd's version.
    Raises ToolMissingError without the extra `zstd`.
    """
    packer = _library().ZstdCompressor(level=level)
    return packer.compress, packer.flush


def _library() -> Any:
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
