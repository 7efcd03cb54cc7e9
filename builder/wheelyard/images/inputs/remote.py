"""Gets finished layers from a registry, and checks every byte of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import FetchError, RegistryError, StorageError
from wheelyard.fetching.download import NothingCame
from wheelyard.fetching.wanted import FileGone
from wheelyard.layers import toc
from wheelyard.layers.layer import Layer
from wheelyard.oci.reindex import reindex
from wheelyard.registry.client import Registry, fetch_blob, open_registry
from wheelyard.system.storage import storage_error
from wheelyard.system.tarfiles import open_gzip

_LARGEST = 64 << 30  # bytes of a layer's tar

if TYPE_CHECKING:
    from wheelyard.images.assemble.assembly import Assembly
    from wheelyard.oci.address import Address
    from wheelyard.oci.blobs import StoredLayer


def registry_layer(work: Assembly, address: Address, key: str, layer: Layer) -> StoredLayer:
    """Take a recorded layer from the registry where images are published.

    A registry keeps blobs by repository: the image's own is tried first. Raises FetchError if none
    has it, and as `fetch_layer` does.
    """
    with open_registry(address, work.context.settings, work.context.reporter) as registry:
        refused: list[FetchError] = []
        for name in work.repositories:
            try:
                stored = fetch_layer(work, registry, address.repository(name), key, layer)
            except NothingCame:
                raise
            except FetchError as error:  # some registries deny access to what they do not have
                refused.append(error)
            else:
                return stored
    others = [error for error in refused if not isinstance(error, FileGone)]
    if others:
        raise FetchError(f"{others[0]} (for a login: `wheelyard login {address.host}`)")
    raise FetchError(f"{address} lacks {layer.digest} (asked: {', '.join(work.repositories)})")


def fetch_layer(
    work: Assembly, registry: Registry, repository: str, key: str, layer: Layer
) -> StoredLayer:
    """Take one gzip layer into the store, its blob kept byte for byte.

    Raises FetchError; StorageError for this machine's disk; and RegistryError if the blob's content
    is not that of `layer`, whose `unpacked_size` may be 0 if unknown.
    """
    try:
        return _fetched(work, registry, repository, key, layer)
    except OSError as error:
        raise storage_error(error, work.files, layer.size) from error


def _fetched(
    work: Assembly, registry: Registry, repository: str, key: str, layer: Layer
) -> StoredLayer:
    with work.timed("fetch"):
        blob = fetch_blob(registry, repository, layer.digest, layer.size, work.files)
    with work.timed("base"):
        try:
            entries = reindex(blob, layer.digest, layer.diff_id, lambda _: None)
            unpacked = _unpacked_size(blob, layer.unpacked_size)
        except StorageError as error:
            blob.unlink(missing_ok=True)
            raise RegistryError(
                f"{registry.address}/{repository}: the blob is not the recorded layer: {error}"
            ) from error
        scratch = work.store.scratch()
        toc.beside(scratch).write_text(toc.dump(entries, layer.digest))
        blob.replace(scratch)
        measured = Layer(layer.digest, layer.diff_id, layer.size, unpacked)
        return work.store.add(key, scratch, measured)


def _unpacked_size(blob: Path, stated: int) -> int:
    size = 0
    with open_gzip(blob) as tar:
        while data := tar.read(1 << 20):
            size += len(data)
            if size > _LARGEST:
                raise StorageError(f"a layer has more than {_LARGEST:,} bytes unpacked")
    if stated not in (0, size):
        raise StorageError(f"{size:,} bytes unpacked, not {stated:,}")
    return size
