"""Layers as a layout or a cache holds them: where the blob is, and what is read from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wheelyard.digests import Digest
from wheelyard.errors import StorageError
from wheelyard.layers import toc
from wheelyard.layers.errors import BlobError, EntryError
from wheelyard.layers.layer import Layer
from wheelyard.layers.toc import Entry
from wheelyard.system.storage import damaged

_HEAD = 1 << 12  # bytes inflated at once where only a file's beginning is read


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer and the place of its blob."""

    layer: Layer
    path: Path
    key: str = ""  # of the cache; empty where the layer is known but not there


def parse_layer(entry: Mapping[str, Any]) -> Layer:
    """Read a layer's description from JSON; ValueError, KeyError or TypeError for anything else."""
    digests = Digest.parse(entry["digest"]), Digest.parse(entry["diff_id"])
    sizes = entry["size"], entry["unpacked_size"]
    for size in sizes:
        if type(size) is not int or size < 0:
            raise ValueError(f"{size!r} is not a size")
    return Layer(*digests, *sizes)


def read_content(blob: Path, entry: Entry) -> bytes:
    """Read one file of a layer, checked against its CRC-32; raises StorageError."""
    with _as_storage_errors(blob):
        return toc.read_content(blob, entry)


def stream_content(blob: Path, entry: Entry) -> Iterator[bytes]:
    """Yield the same in pieces; what was yielded is checked when the last one has been."""
    with _as_storage_errors(blob):
        yield from toc.stream_content(blob, entry)


def read_head(blob: Path, entry: Entry, size: int) -> bytes:
    """Return at least the first `size` bytes of a file, if it has them, unchecked."""
    head = b""
    with _as_storage_errors(blob):
        for content in toc.stream_content(blob, entry, _HEAD):
            head += content
            if len(head) >= size:
                break
    return head


@contextmanager
def _as_storage_errors(blob: Path) -> Iterator[None]:
    try:
        yield
    except BlobError as error:
        raise damaged(blob, error.why) from error
    except EntryError as error:
        raise StorageError(str(error)) from error
