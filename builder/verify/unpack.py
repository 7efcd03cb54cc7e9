"""An image's layers as a root file system in a folder (OCI image-spec, layer.md); needs root."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from builder.errors import StorageError
from builder.system.gunzip import open_gzip

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"


def unpack(
    layers: Iterable[Path], root: Path, on_layer: Callable[[int], None] = lambda _: None
) -> None:
    """Apply layer blobs, lowest first, to the empty folder `root`; `on_layer` hears of each."""
    for layer in layers:
        with open_gzip(layer) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            for entry in tar:
                _apply(tar, entry, root)
        on_layer(1)


def _apply(tar: tarfile.TarFile, entry: tarfile.TarInfo, root: Path) -> None:
    path = PurePosixPath("/", entry.name).relative_to("/")
    if ".." in path.parts:
        raise StorageError(f"a layer leads out of the image: {entry.name}; build it again")
    if path.name == OPAQUE:
        for child in (root / path.parent).iterdir():
            _remove(child)
    elif path.name.startswith(WHITEOUT):
        _remove(root / path.parent / path.name.removeprefix(WHITEOUT))
    else:
        target = root / path
        if target.is_symlink() or not (entry.isdir() and target.is_dir()):
            _remove(target)
        tar.extract(entry, root, numeric_owner=True, filter="fully_trusted")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
