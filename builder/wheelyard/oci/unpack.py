"""Unpacks an image's layers into a folder (OCI image-spec, layer.md); needs root."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from wheelyard.errors import unreadable
from wheelyard.layers.whiteout import is_whiteout, removed
from wheelyard.system.rootfolder import Attributes, OutsideError, RootFolder, entry_path
from wheelyard.system.storage import damaged, storage_error
from wheelyard.system.tarfiles import open_gzip, open_tar

_NOBODY = 65534
_CHUNK = 1 << 20
_ENTRY = 512  # bytes that an entry counts for beside its content
_LATEST = 1 << 33  # seconds since 1970; file systems cannot store later times
_LAST_ID = (1 << 32) - 2


def unpack(
    layers: Iterable[Path],
    root: Path,
    on_layer: Callable[[int], None] = lambda _: None,
    largest: int | None = None,
) -> None:
    """Apply layer blobs, lowest first, to the empty folder `root`; call `on_layer` with each.

    Device nodes are left out: a program that runs in the folder gets its own /dev. Raises
    StorageError for a layer that is damaged, that would reach out of the folder, or that has more
    than `largest` bytes unpacked.
    """
    left = largest
    with RootFolder(root) as target:
        for layer in layers:
            try:
                with (
                    unreadable(partial(damaged, layer)),
                    open_gzip(layer) as file,
                    open_tar(file, "r|") as tar,
                ):
                    for entry in tar:
                        if left is not None and (left := left - entry.size - _ENTRY) < 0:
                            raise tarfile.ReadError(f"more than {largest:,} bytes unpacked")
                        _apply(tar, entry, target)
            except OSError as error:
                raise storage_error(error, root) from error
            on_layer(1)


def make_mount_points(root: Path) -> None:
    """Make /dev and /proc empty folders of the image, whatever its layers hold there."""
    for name in ("dev", "proc"):
        path = root / name
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
        path.mkdir()
        path.chmod(0o755)


def _apply(tar: tarfile.TarFile, entry: tarfile.TarInfo, root: RootFolder) -> None:
    path = entry_path(entry.name)
    if is_whiteout(path):
        target, is_opaque = removed(path) or ("", False)
        if not is_opaque and target.rpartition("/")[2] in ("", ".", ".."):
            raise OutsideError(f"a layer removes {path[:200]!r}; do not use this image")
        (root.empty if is_opaque else root.remove)(target)
    elif entry.isdir():
        root.folder(path, _attributes(entry))
    elif entry.issym():
        root.symlink(path, entry.linkname, _attributes(entry))
    elif entry.islnk():
        root.hardlink(path, entry_path(entry.linkname))
    elif entry.isreg():
        root.file(path, _content(tar, entry), _attributes(entry))
    elif entry.isfifo():
        root.fifo(path, _attributes(entry))


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> Iterator[bytes]:
    file = tar.extractfile(entry)
    while file is not None and (data := file.read(_CHUNK)):
        yield data


def _attributes(entry: tarfile.TarInfo) -> Attributes:
    mtime = entry.mtime if 0 <= entry.mtime < _LATEST else 0
    owner = None
    if os.geteuid() == 0:
        ids = (entry.uid, entry.gid)
        owner = ids if all(0 <= one <= _LAST_ID for one in ids) else (_NOBODY, _NOBODY)
    return Attributes(entry.mode, mtime, owner)
