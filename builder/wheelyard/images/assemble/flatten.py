"""The root file system that an image's layers make together, whoever made them.

Source: OCI image-spec 1.1, layer.md: entries of upper layers replace lower ones, whiteouts remove.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from wheelyard.errors import BaseImageError, WheelyardError, unreadable
from wheelyard.images.assemble.rootfs import Node, RootFS, index_stream
from wheelyard.system.gunzip import open_gzip
from wheelyard.system.rootfolder import OutsideError, resolve
from wheelyard.system.storage import damaged, is_file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


def flatten(blobs: Iterable[Path], scratch: Path) -> RootFS:
    """Inflate layers, lowest first, into `scratch` one behind the other, and index the whole.

    Raises BaseImageError for a layer that is no gzip-packed tar.
    """
    nodes: dict[str, Node] = {}
    with scratch.open("w+b") as file:
        for blob in blobs:
            start = file.tell()
            with unreadable(partial(_no_layer, blob)):
                try:
                    with open_gzip(blob) as packed:
                        shutil.copyfileobj(packed, file, 1 << 20)
                    end = file.tell()
                    file.seek(start)
                    _apply_layer(nodes, index_stream(file))
                except OutsideError as error:
                    raise _no_layer(blob, str(error)) from error
            file.seek(end)
    return RootFS(scratch, nodes)


def _no_layer(blob: Path, why: str) -> WheelyardError:
    if re.fullmatch("[0-9a-f]{64}", blob.name) and not is_file_of(blob, blob.name):
        return damaged(blob, why)
    return BaseImageError(f"{blob}: no layer of the base: {why}")


def _apply_layer(nodes: dict[str, Node], layer: dict[str, Node]) -> None:
    """Put one layer over `nodes`; raises OutsideError for entries that have no place there."""

    def link(path: str) -> str | None:
        found = nodes.get(path)
        return found.entry.link if found is not None and found.entry.kind == "symlink" else None

    for entry in layer:
        folder, _, name = resolve(entry, link).rpartition("/")
        if name == _OPAQUE:
            _remove(nodes, folder, itself=False)
        elif name.startswith(_WHITEOUT) and (hidden := name.removeprefix(_WHITEOUT)):
            _remove(nodes, f"{folder}/{hidden}".lstrip("/"))
    for entry, given in layer.items():
        if entry.rpartition("/")[2].startswith(_WHITEOUT):
            continue
        path = resolve(entry, link)
        _require_folders(nodes, path)
        node = _moved(given, path, link)
        old = nodes.get(path)
        if old and old.entry.kind != "dir":
            _pass_on(nodes, path)
        elif old and node.entry.kind != "dir":
            _remove(nodes, path)
        nodes[path] = node


def _require_folders(nodes: dict[str, Node], path: str) -> None:
    """Raise OutsideError for a path below a file."""
    parent = path.rpartition("/")[0]
    while parent:
        if parent in nodes and nodes[parent].entry.kind != "dir":
            raise OutsideError(f"/{parent} is no folder, but {path} lies in it")
        parent = parent.rpartition("/")[0]


def _moved(node: Node, path: str, link: Callable[[str], str | None]) -> Node:
    """The node where the links among its parents, and its target's, lead."""
    entry = node.entry
    target = resolve(entry.link, link) if entry.kind == "hardlink" else entry.link
    if (path, target) == (entry.path, entry.link):
        return node
    return replace(node, entry=replace(entry, path=path, link=target))


def _remove(nodes: dict[str, Node], path: str, *, itself: bool = True) -> None:
    """Take away all below a path, and the path itself."""
    below = f"{path}/" if path else ""
    gone = [name for name in nodes if name.startswith(below)]
    for name in [*gone, path] if itself else gone:
        if name in nodes:
            _pass_on(nodes, name)


def _pass_on(nodes: dict[str, Node], path: str) -> None:
    """Take one path away; where hard links lead to it, the first of them gets the bytes."""
    node = nodes.pop(path)
    heirs = [p for p, x in nodes.items() if x.entry.kind == "hardlink" and x.entry.link == path]
    if node.entry.kind != "file" or not heirs:
        return
    first, *others = sorted(heirs)
    nodes[first] = replace(node, entry=replace(node.entry, path=first))
    for other in others:
        nodes[other] = replace(nodes[other], entry=replace(nodes[other].entry, link=first))
