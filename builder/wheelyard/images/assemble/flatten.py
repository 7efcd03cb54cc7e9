"""Merges an image's layers into one root file system.

Source: OCI image-spec 1.1, layer.md: entries of upper layers replace lower ones, whiteouts remove.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from wheelyard.errors import BaseImageError, WheelyardError, unreadable
from wheelyard.images.assemble.rootfs import Node, RootFS, index_stream
from wheelyard.layers.toc import parents
from wheelyard.layers.whiteout import is_whiteout, removed
from wheelyard.system.rootfolder import OutsideError, resolve
from wheelyard.system.storage import damaged, is_file_of
from wheelyard.system.tarfiles import open_gzip


def flatten(blobs: Iterable[Path], scratch: Path) -> RootFS:
    """Inflate layers, lowest first, into `scratch` one after the other, and index the result.

    Raises BaseImageError for a layer that is not a gzip-compressed tar.
    """
    overlay = Overlay()
    with scratch.open("w+b") as file:
        for blob in blobs:
            start = file.tell()
            with unreadable(partial(_no_layer, blob)):
                try:
                    with open_gzip(blob) as packed:
                        shutil.copyfileobj(packed, file, 1 << 20)
                    end = file.tell()
                    file.seek(start)
                    overlay.apply(index_stream(file))
                except OutsideError as error:
                    raise _no_layer(blob, str(error)) from error
            file.seek(end)
    return RootFS(scratch, overlay.nodes)


def _no_layer(blob: Path, why: str) -> WheelyardError:
    if re.fullmatch("[0-9a-f]{64}", blob.name) and not is_file_of(blob, blob.name):
        return damaged(blob, why)
    return BaseImageError(f"{blob}: not a layer of a base: {why}")


class Overlay:
    """Merged layers; the cost of a removal depends on its own size, not on the whole tree's."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self._inside: dict[str, set[str]] = {}  # folder -> its entries, explicit or implied
        self._links: dict[str, set[str]] = {}  # path -> the hard links to it

    def apply(self, layer: dict[str, Node]) -> None:
        """Add one layer on top; raise OutsideError for entries that have no valid place."""
        for entry in layer:
            if gone := removed(resolve(entry, self._link)):
                path, is_opaque = gone
                (self._empty if is_opaque else self._remove)(path)
        for entry, given in layer.items():
            if is_whiteout(entry):
                continue
            path = resolve(entry, self._link)
            self._require_folders(path)
            node = _moved(given, path, self._link)
            old = self.nodes.get(path)
            if old and old.entry.kind != "dir":
                self._pop(path)
            elif old and node.entry.kind != "dir":
                self._remove(path)
            self._put(path, node)

    def _link(self, path: str) -> str | None:
        node = self.nodes.get(path)
        return node.entry.link if node is not None and node.entry.kind == "symlink" else None

    def _require_folders(self, path: str) -> None:
        """Raise OutsideError for a path below a file."""
        for parent in parents(path):
            if parent in self.nodes and self.nodes[parent].entry.kind != "dir":
                raise OutsideError(f"/{parent} is not a folder, but {path} is in it")

    def _put(self, path: str, node: Node) -> None:
        self.nodes[path] = node
        if node.entry.kind == "hardlink":
            self._links.setdefault(node.entry.link, set()).add(path)
        while path:
            folder = path.rpartition("/")[0]
            inside = self._inside.setdefault(folder, set())
            if path in inside:
                break
            inside.add(path)
            path = folder

    def _remove(self, path: str) -> None:
        """Remove a path and everything below it."""
        self._empty(path)
        self._inside.get(path.rpartition("/")[0], set()).discard(path)
        if path in self.nodes:
            self._pop(path)

    def _empty(self, folder: str) -> None:
        """Remove everything below a folder."""
        left = list(self._inside.pop(folder, ()))
        while left:
            path = left.pop()
            left += self._inside.pop(path, ())
            if path in self.nodes:
                self._pop(path)

    def _pop(self, path: str) -> None:
        """Remove one path. If hard links lead to it, the first becomes the regular file."""
        node = self.nodes.pop(path)
        if node.entry.kind == "hardlink":
            self._links[node.entry.link].discard(path)
        links = sorted(self._links.pop(path, ())) if node.entry.kind == "file" else []
        if not links:
            return
        first, *others = links
        self._put(first, replace(node, entry=replace(node.entry, path=first)))
        for other in others:
            link = self.nodes[other]
            self._put(other, replace(link, entry=replace(link.entry, link=first)))


def _moved(node: Node, path: str, link: Callable[[str], str | None]) -> Node:
    """Resolve the links among the parents of a node and of its target."""
    entry = node.entry
    target = resolve(entry.link, link) if entry.kind == "hardlink" else entry.link
    if (path, target) == (entry.path, entry.link):
        return node
    return replace(node, entry=replace(entry, path=path, link=target))
