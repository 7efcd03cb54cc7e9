"""Whiteouts: names by which a layer removes files of the layers below it. Pure.

Source: OCI image-spec 1.1, layer.md. Engines look only at the last part of a path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

PREFIX = ".wh."
_OPAQUE = ".wh..wh..opq"


def holds_whiteout(path: str) -> bool:
    """Tell whether engines may read any part of `path` as an instruction to delete."""
    return path.startswith(PREFIX) or f"/{PREFIX}" in path


def is_whiteout(path: str) -> bool:
    """Tell whether engines read the entry at `path` as an instruction to delete, not as a file."""
    return path.rpartition("/")[2].startswith(PREFIX)


def removed(path: str) -> tuple[str, bool] | None:
    """Return what the entry at `path` removes: a path, or (True) its content; None: nothing."""
    folder, _, name = path.rpartition("/")
    if name == _OPAQUE:
        return folder, True
    target = name.removeprefix(PREFIX)
    return (f"{folder}/{target}".lstrip("/"), False) if target not in (name, "") else None


def hidden(below: Mapping[str, str], layer: Iterable[tuple[str, str]]) -> list[str]:
    """List the paths of `below` that `layer` removes or replaces.

    Both are paths and kinds ("dir" or another). A folder that is also in the layer stays, with its
    content.
    """
    whole: set[str] = set()  # these, and all below them
    inside: set[str] = set()  # all below these
    replaced: set[str] = set()  # these alone
    for path, kind in layer:
        if is_whiteout(path):
            if gone := removed(path):
                target, is_opaque = gone
                (inside if is_opaque else whole).add(target)
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
