"""The root file system that an image's layers make together, whoever made them.

Source: OCI image-spec 1.1, layer.md: entries of upper layers replace lower ones, whiteouts remove.
"""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.assemble.gzipmember import IsalError
from builder.assemble.rootfs import Node, RootFS, index_stream
from builder.errors import BaseImageError
from builder.system.gunzip import open_gzip

if TYPE_CHECKING:
    from collections.abc import Iterable
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
            try:
                with open_gzip(blob) as packed:
                    shutil.copyfileobj(packed, file, 1 << 20)
                end = file.tell()
                file.seek(start)
                layer = index_stream(file)
            except (tarfile.TarError, IsalError, EOFError, KeyError) as error:
                raise BaseImageError(f"{blob}: no layer of the base: {error}") from error
            file.seek(end)
            apply_layer(nodes, layer)
    return RootFS(scratch, nodes)


def apply_layer(nodes: dict[str, Node], layer: dict[str, Node]) -> None:
    """Put one layer over `nodes`."""
    for path in layer:
        folder, _, name = path.rpartition("/")
        if name == _OPAQUE:
            _remove(nodes, folder, itself=False)
        elif name.startswith(_WHITEOUT):
            _remove(nodes, f"{folder}/{name.removeprefix(_WHITEOUT)}".lstrip("/"))
    for path, node in layer.items():
        if path.rpartition("/")[2].startswith(_WHITEOUT):
            continue
        old = nodes.get(path)
        if old and old.entry.kind != "dir":
            _pass_on(nodes, path)
        elif old and node.entry.kind != "dir":
            _remove(nodes, path)
        nodes[path] = node


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
