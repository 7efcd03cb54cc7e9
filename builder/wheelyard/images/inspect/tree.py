"""The files of an image, merged from its layers and read back from the blobs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wheelyard.errors import InspectError, WheelError
from wheelyard.layers.toc import Entry, parents
from wheelyard.layers.whiteout import hidden, is_whiteout
from wheelyard.oci import blobs

_PACKAGES = "var/lib/dpkg/status"


@dataclass(frozen=True, slots=True)
class LayerContents:
    """A layer's blob and its table of contents."""

    blob: Path
    entries: Sequence[Entry]
    title: str
    from_wheels: bool  # no other layer must hold one of its paths with different bytes


@dataclass(frozen=True, slots=True)
class _Found:
    """An entry of the merged tree and the layer it comes from."""

    entry: Entry
    layer: LayerContents


class Tree:
    """Path -> entry of the uppermost layer that has it; whiteouts applied as engines do."""

    def __init__(self, layers: Iterable[LayerContents]) -> None:
        self._found: dict[str, _Found] = {}
        self.layers = tuple(layers)
        kinds: dict[str, str] = {}
        for layer in self.layers:
            for entry in layer.entries:
                earlier = self._found.get(entry.path)
                if earlier and (layer.from_wheels or earlier.layer.from_wheels):
                    _check_same_content(earlier, _Found(entry, layer))
            for path in hidden(kinds, ((entry.path, entry.kind) for entry in layer.entries)):
                del self._found[path], kinds[path]
            for entry in layer.entries:
                if not is_whiteout(entry.path):
                    self._found[entry.path] = _Found(entry, layer)
                    kinds[entry.path] = entry.kind

    def __contains__(self, path: str) -> bool:
        return path in self._found

    def __iter__(self) -> Iterator[Entry]:
        return (placed.entry for placed in self._found.values())

    def entry(self, path: str) -> Entry:
        """Return the entry at `path`; InspectError if there is none."""
        return self._get(path).entry

    def read(self, path: str) -> bytes:
        """Return the content of the file at `path`, checked against its CRC-32."""
        placed, names = self._get(path), {path}
        while placed.entry.kind == "hardlink":
            if placed.entry.link in names:
                raise InspectError(f"/{path} of the image is a hard link to itself")
            names.add(placed.entry.link)
            placed = self._get(placed.entry.link)
        return blobs.read_content(placed.layer.blob, placed.entry)

    def head(self, path: str) -> bytes:
        """Return the first bytes of the file at `path`, at least 64 if it has them, unchecked."""
        placed = self._get(path)
        return blobs.read_head(placed.layer.blob, placed.entry, 64)

    def text(self, path: str) -> str:
        """Return the content of the file at `path` as UTF-8."""
        return self.read(path).decode("utf-8", "replace")

    def _get(self, path: str) -> _Found:
        try:
            return self._found[path]
        except KeyError:
            raise InspectError(f"the image has no /{path}") from None


def folder_problems(layers: Iterable[LayerContents], environment: str) -> list[str]:
    """List layers that lack a folder above their entries, or change one.

    Begins with the layer that contains the `environment`: those below it may be from a registry.
    """
    problems: list[str] = []
    below: dict[str, Entry] | None = None
    for layer in layers:
        folders = {entry.path: entry for entry in layer.entries if entry.kind == "dir"}
        if below is None and environment not in folders:
            continue
        holders = {entry.path.rpartition("/")[0] for entry in layer.entries}
        above = {folder for path in holders for folder in (*parents(path), path) if folder}
        for path in sorted(above - folders.keys()):
            problems.append(f"{layer.title}: /{path} is missing")
        # Packages may change the folders of others, and those of a real root file system are right.
        compared = () if any(x.path == _PACKAGES for x in layer.entries) else sorted(folders)
        for path in compared:
            old = (below or {}).get(path)
            if old and describe(old) != describe(folders[path]):
                was, is_now = describe(old), describe(folders[path])
                problems.append(f"{layer.title}: /{path} is {is_now}, and {was} below it")
        below = (below or {}) | folders
    return problems


def describe(entry: Entry) -> str:
    """Format owner, group and mode, as findings state them."""
    return f"{entry.uid}:{entry.gid} {entry.mode:o}"


def _check_same_content(first: _Found, second: _Found) -> None:
    a, b = first.entry, second.entry
    if a.kind == b.kind == "dir":
        return
    if (a.kind, a.size, a.crc, a.link) == (b.kind, b.size, b.crc, b.link) and (
        _digest(first) == _digest(second)
    ):
        return
    raise WheelError(
        f"two layers hold /{a.path} with different content: {first.layer.title} and "
        f"{second.layer.title}; an image cannot hold both: change the cell's requirements"
    )


def _digest(placed: _Found) -> bytes:
    digest = hashlib.sha256()
    for data in blobs.stream_content(placed.layer.blob, placed.entry):
        digest.update(data)
    return digest.digest()
