"""Finds the first difference of two images: config, layer, file.

Tables of contents are looked up through parameters. Layers are compared from the lowest:
differences above usually follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wheelyard.layers.toc import Entry
from wheelyard.oci.layout import Layout

Contents = Callable[[int], Sequence["Entry"]]  # a layer's number -> what is in it


@dataclass(frozen=True, slots=True)
class Published:
    """An image, as its manifest and config describe it."""

    digest: str
    manifest: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def layers(self) -> list[str]:
        """Digests, lowest first."""
        return [str(layer["digest"]) for layer in self.manifest["layers"]]

    @property
    def diff_ids(self) -> list[str]:
        """Digests of the layers' tars."""
        return list(map(str, self.config["rootfs"]["diff_ids"]))


@dataclass(frozen=True, slots=True)
class Difference:
    """The first difference."""

    what: str  # "layer 3 (torch 2.3.1)", "config.Env", "number of layers"
    theirs: str
    ours: str
    file: str | None = None  # the first file of that layer that differs, and how


def in_layout(layout: Layout, digest: str) -> Published:
    """Read an image of a layout."""
    return Published(digest, *layout.read_image(digest))


def as_files(image: Published) -> Published:
    """Return the image without what depends on compression: its config, and the layers' tars."""
    layers = [{"digest": diff_id} for diff_id in image.diff_ids]
    return Published(str(image.manifest["config"]["digest"]), {"layers": layers}, image.config)


def first_difference(
    theirs: Published, ours: Published, their_contents: Contents, our_contents: Contents
) -> Difference | None:
    """Return the first difference; None if the images are identical."""
    if theirs.digest == ours.digest:
        return None
    for number, (left, right) in enumerate(zip(theirs.layers, ours.layers, strict=False)):
        if left != right:
            file = _first_file(their_contents(number), our_contents(number))
            if file is None and theirs.diff_ids[number] == ours.diff_ids[number]:
                file = "no file: the same tar, compressed in another way"
            return Difference(f"layer {number} ({_title(ours, number)})", left, right, file)
    if len(theirs.layers) != len(ours.layers):
        counts = str(len(theirs.layers)), str(len(ours.layers))
        return Difference("number of layers", *counts)
    return _first_key("config", theirs.config, ours.config) or _first_key(
        "manifest", theirs.manifest, ours.manifest
    )


def _title(image: Published, number: int) -> str:
    return str(image.config["history"][number]["created_by"]).removeprefix("wheelyard: ")


def _first_file(theirs: Sequence[Entry], ours: Sequence[Entry]) -> str | None:
    left, right = ({entry.path: entry for entry in entries} for entries in (theirs, ours))
    for path in sorted({*left, *right}):
        if path not in right:
            return f"{path}: not in ours"
        if path not in left:
            return f"{path}: only in ours"
        if (how := _how(left[path], right[path])) is not None:
            return f"{path}: {how}"
    return None


def _how(theirs: Entry, ours: Entry) -> str | None:
    for name in ("kind", "link", "size", "mode", "uid", "gid", "crc"):
        left, right = getattr(theirs, name), getattr(ours, name)
        if left != right:
            if name == "crc":
                return "the same size, other bytes"
            return (
                f"{name} {left:o}, ours {right:o}"
                if name == "mode"
                else (f"{name} {left}, ours {right}")
            )
    return None


def _first_key(name: str, theirs: Any, ours: Any) -> Difference | None:
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        for key in sorted({*theirs, *ours}):
            difference = _first_key(f"{name}.{key}", theirs.get(key), ours.get(key))
            if difference is not None:
                return difference
        return None
    return None if theirs == ours else Difference(name, str(theirs), str(ours))
