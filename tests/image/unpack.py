"""Unpack layers into a folder, whiteouts applied (OCI image-spec, layer.md); needs root."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from tests.image.layout import open_layer

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"


def unpack(layers: Iterable[Path], root: Path) -> None:
    """Apply layer blobs, lowest first, to the empty folder `root`."""
    for layer in layers:
        with open_layer(layer) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            for entry in tar:
                apply_entry(tar, entry, root)


def apply_entry(tar: tarfile.TarFile, entry: tarfile.TarInfo, root: Path) -> None:
    """Put one entry of a layer in its place, or carry out what a whiteout asks for."""
    path = PurePosixPath("/", entry.name).relative_to("/")
    if ".." in path.parts:
        raise ValueError(f"a layer leads out of the image: {entry.name}")
    if path.name == OPAQUE:
        for child in (root / path.parent).iterdir():
            remove(child)
    elif path.name.startswith(WHITEOUT):
        remove(root / path.parent / path.name.removeprefix(WHITEOUT))
    else:
        target = root / path
        if target.is_symlink() or not (entry.isdir() and target.is_dir()):
            remove(target)
        tar.extract(entry, root, numeric_owner=True, filter="fully_trusted")


def remove(path: Path) -> None:
    """Remove whatever is there, never following a link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
