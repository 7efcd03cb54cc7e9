"""Whiteouts: the names by which a layer takes away files of those below it. Pure.

Source: OCI image-spec 1.1, layer.md. Engines go by the last part of a path alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PREFIX = ".wh."
_OPAQUE = ".wh..wh..opq"


def holds_whiteout(path: str) -> bool:
    """Whether any part of `path` is a name that engines may read as an order to delete."""
    return path.startswith(PREFIX) or f"/{PREFIX}" in path


def is_whiteout(path: str) -> bool:
    """Whether engines read the entry at `path` as an order to delete, not as a file."""
    return path.rpartition("/")[2].startswith(PREFIX)


def hidden(below: Mapping[str, str], layer: Iterable[tuple[str, str]]) -> list[str]:
    """The paths of `below` that are gone, or replaced, once `layer` lies on top.

    Both are paths and kinds ("dir" or another). A folder that the layer holds as well stays, with
    what is in it.
    """
    whole: set[str] = set()  # these, and all below them
    inside: set[str] = set()  # all below these
    replaced: set[str] = set()  # these alone
    for path, kind in layer:
        if is_whiteout(path):
            folder, _, name = path.rpartition("/")
            if name == _OPAQUE:
                inside.add(folder)
            else:
                whole.add(f"{folder}/{name.removeprefix(PREFIX)}".lstrip("/"))
        elif (old := below.get(path)) is not None and "dir" in (old, kind) and old != kind:
            (whole if old == "dir" else replaced).add(path)
    if not (whole or inside or replaced):
        return []
    return [path for path in below if _is_hidden(path, whole, inside, replaced)]


def _is_hidden(path: str, whole: set[str], inside: set[str], replaced: set[str]) -> bool:
    if path in whole or path in replaced:
        return True
    return any(parent in whole or parent in inside for parent in _parents(path))


def _parents(path: str) -> Iterator[str]:
    while path:
        path = path.rpartition("/")[0]
        yield path
