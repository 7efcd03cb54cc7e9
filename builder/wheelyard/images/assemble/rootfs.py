"""A root file system as a tar on disk, read in place and made canonical.

Files that a package manager leaves behind without being content (logs, caches, this machine's name)
are dropped; the image contract (wheelyard.images.assemble.accounts) is added.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from wheelyard.errors import BaseImageError
from wheelyard.layers.gzipmember import crc32
from wheelyard.layers.tarheader import EPOCH
from wheelyard.layers.toc import Entry, parents
from wheelyard.system.rootfolder import entry_path
from wheelyard.system.tarfiles import KINDS, open_tar

if TYPE_CHECKING:
    from wheelyard.layers.layer import LayerWriter

# Runtime directories; their contents are never part of an image.
_DROPPED = (
    "dev/*", "proc/*", "sys/*", "run/*", "tmp/*", "var/tmp/*", "var/log/*", "var/cache/*/*",
    "var/lib/apt/lists/*", "var/lib/dpkg/*-old", "var/lib/systemd/*", "etc/*-", "etc/hostname",
    "etc/resolv.conf", "etc/machine-id", "etc/.pwd.lock", "etc/apt/sources.list",
    "etc/apt/sources.list.d/*", "root/.bash_history",
)  # fmt: skip
# Older versions of mmdebstrap link these to /usr whether or not a package has files there.
_MULTILIB = ("lib32", "libx32", "libo32")
_LINKS = 40  # as many as Linux follows
_KEPT = ("var/log/apt", "var/cache/apt/archives")  # apt wants these folders


@dataclass(frozen=True, slots=True)
class Node:
    """One path of a root file system; its content is in memory or in the tar."""

    entry: Entry
    mtime: int  # seconds since 1970
    at: int = 0  # offset of the content in the tar, bytes
    content: bytes | None = None


class RootFS:
    """Paths and contents of a root file system's tar.

    A folder that the tar leaves out has the owner and mode that every engine gives it: root's,
    0755.
    """

    def __init__(self, tar: Path, nodes: Mapping[str, Node], sources_list: str = "") -> None:
        self._tar = tar
        self.sources_list = sources_list  # the distribution's own, for apt in the image
        above = {folder for path in nodes for folder in parents(path)} - nodes.keys()
        made = {path: Node(Entry(path, "dir", 0o755, 0, 0), EPOCH) for path in above}
        self.nodes = dict(sorted({**nodes, **made}.items()))

    def read(self, path: str) -> bytes:
        """Return the content of the file at `path`; BaseImageError if there is none."""
        node = self.nodes.get(path)
        if node is None or node.entry.kind != "file":
            raise BaseImageError(f"the base has no file /{path}; it does not match its lock")
        with self._tar.open("rb") as file:
            return _content(node, file)

    def real(self, path: str) -> str:
        """Resolve all links in `path`, always inside this root.

        Raises BaseImageError for links that form a loop.
        """
        done: list[str] = []
        left = path.split("/")[::-1]
        for _ in range(_LINKS):
            while left:
                part = left.pop()
                if part == "..":
                    del done[-1:]
                elif part not in ("", "."):
                    done.append(part)
                node = self.nodes.get("/".join(done))
                if node is not None and node.entry.kind in ("symlink", "hardlink"):
                    break
            else:
                return "/".join(done)
            link = node.entry.link
            done = [] if node.entry.kind == "hardlink" or link.startswith("/") else done[:-1]
            left += link.split("/")[::-1]
        raise BaseImageError(f"/{path} of the base is a link that leads back to itself")

    def overlaid(self, nodes: Mapping[str, Node]) -> RootFS:
        """Return the same root file system with `nodes` added on top."""
        return RootFS(self._tar, {**self.nodes, **nodes}, self.sources_list)

    def write(self, writer: LayerWriter, below: RootFS | None = None) -> None:
        """Add everything to a layer, or with `below` only the differences from that one."""
        chosen = self.nodes if below is None else self._difference(below)
        with self._tar.open("rb") as file:
            for node in chosen.values():
                entry, data = node.entry, b""
                if entry.kind == "file":
                    data = _content(node, file)
                    entry = with_content(entry, data)
                writer.add(entry, data, node.mtime)

    def _difference(self, below: RootFS) -> dict[str, Node]:
        if gone := sorted(below.nodes.keys() - self.nodes.keys()):
            raise BaseImageError(
                f"a flavour may only add to the one below it, but /{gone[0]} is gone "
                f"({len(gone)} paths); check the package lists of the flavours"
            )
        changed = {path for path, node in self.nodes.items() if not self._same(node, below)}
        # A hard link needs its target in the same layer.
        targets = {
            node.entry.link for path in changed if (node := self.nodes[path]).entry.link
            and node.entry.kind == "hardlink"
        }  # fmt: skip
        wanted = changed | targets
        wanted |= {folder for path in wanted for folder in parents(path)}
        return {path: node for path, node in self.nodes.items() if path in wanted}

    def _same(self, node: Node, below: RootFS) -> bool:
        other = below.nodes.get(node.entry.path)
        if other is None or _attributes(other.entry) != _attributes(node.entry):
            return False
        if node.entry.kind != "file":
            return True
        return other.mtime == node.mtime and below.read(other.entry.path) == self.read(
            node.entry.path
        )


def read_rootfs(tar: Path, sources_list: str) -> RootFS:
    """Index a root file system as it was installed, without what is not content.

    A folder's time says which package came last, which apt and mmdebstrap decide differently from
    version to version; so every folder gets the newest time of all.
    """
    nodes = index_tar(tar).nodes
    unused = set(_unused_multilib(nodes))
    newest = max((node.mtime for node in nodes.values()), default=EPOCH)
    kept = {
        path: replace(node, mtime=newest) if node.entry.kind == "dir" else node
        for path, node in nodes.items()
        if path not in unused and not is_dropped(path)
    }
    return RootFS(tar, kept, sources_list)


def _unused_multilib(nodes: Mapping[str, Node]) -> Iterator[str]:
    for name in _MULTILIB:
        if not any(path.startswith((f"{name}/", f"usr/{name}/")) for path in nodes):
            yield from (name, f"usr/{name}")


def index_tar(tar: Path) -> RootFS:
    """Index the content of a tar, without device nodes."""
    with tar.open("rb") as file:
        return RootFS(tar, index_stream(file))


def index_stream(file: BinaryIO) -> dict[str, Node]:
    """Index the tar that begins at the file's position; contents keep their offsets in it."""
    nodes: dict[str, Node] = {}
    with open_tar(file, "r:") as archive:
        for info in archive:
            path = entry_path(info.name)
            kind = KINDS.get(info.type)
            if not path or kind is None:
                continue
            link = entry_path(info.linkname) if kind == "hardlink" else info.linkname
            entry = Entry(path, kind, info.mode, info.uid, info.gid, info.size, link)
            nodes[path] = Node(entry, int(info.mtime), info.offset_data)
    return _with_links_last(nodes)


def _attributes(entry: Entry) -> Entry:
    """Return an entry without its checksum, which an entry from a tar does not have."""
    return replace(entry, crc=0)


def with_content(entry: Entry, data: bytes) -> Entry:
    """Return `entry` with the size and CRC-32 of `data`."""
    return Entry(
        entry.path, entry.kind, entry.mode, entry.uid, entry.gid, len(data), crc=crc32(data)
    )


def _with_links_last(nodes: dict[str, Node]) -> dict[str, Node]:
    """Sort by path and let the first hard link of a set hold the content."""
    first: dict[str, str] = {}
    result = dict(nodes)
    for path in sorted(nodes):
        node = nodes[path]
        if node.entry.kind != "hardlink":
            continue
        target = nodes[node.entry.link]
        holder = first.setdefault(node.entry.link, min(path, node.entry.link))
        for name in (path, node.entry.link):
            meta = target.entry
            if name == holder:
                entry = Entry(name, "file", meta.mode, meta.uid, meta.gid, meta.size)
                result[name] = Node(entry, target.mtime, target.at)
            else:
                entry = Entry(name, "hardlink", meta.mode, meta.uid, meta.gid, 0, holder)
                result[name] = Node(entry, target.mtime)
    return result


def is_dropped(path: str) -> bool:
    """Tell whether a path is left behind by a package manager without being content."""
    return path not in _KEPT and any(fnmatch.fnmatchcase(path, pattern) for pattern in _DROPPED)


def _content(node: Node, file: BinaryIO) -> bytes:
    if node.content is not None:
        return node.content
    file.seek(node.at)
    return file.read(node.entry.size)
