"""Read built images from an OCI image layout, by the specification and not through builder/."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from isal import igzip  # many members in one file, and five times the speed of gzip

REF_NAME = "org.opencontainers.image.ref.name"
CELL_KEYS = (
    "id", "framework", "framework_version", "cuda", "cudnn", "python", "flavour", "base",
)  # fmt: skip


@dataclass(frozen=True)
class BuiltImage:
    """One image of `dist/build.json`, read back from the layout beside it."""

    id: str
    digest: str
    tags: tuple[str, ...]
    cell: dict[str, str]
    dist: Path

    def blob(self, digest: str) -> Path:
        return self.dist / "blobs" / digest.replace(":", "/", 1)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return dict(json.loads(self.blob(self.digest).read_bytes()))

    @cached_property
    def config(self) -> dict[str, Any]:
        return dict(json.loads(self.blob(self.manifest["config"]["digest"]).read_bytes()))

    @property
    def settings(self) -> dict[str, Any]:
        """The part of the config that says how a container runs."""
        return dict(self.config["config"])

    @property
    def environment(self) -> dict[str, str]:
        return dict(entry.split("=", 1) for entry in self.settings["Env"])

    @property
    def layers(self) -> list[str]:
        return [layer["digest"] for layer in self.manifest["layers"]]

    @property
    def has_cuda(self) -> bool:
        return self.cell["cuda"] != "cpu"

    @property
    def overridden(self) -> set[str]:
        """Distributions that the cell puts in the place of the ones that upstream pins."""
        label = json.loads(self.settings["Labels"]["wheelyard.cell"])
        return {pin.split("==")[0] for pin in label.get("overrides", ())}

    @property
    def flavour(self) -> str:
        return self.cell["flavour"]


def read_built(dist: Path) -> tuple[BuiltImage, ...]:
    """Every image that the last build lists; empty when nothing was built."""
    report = dist / "build.json"
    if not report.exists():
        return ()
    return tuple(
        BuiltImage(item["id"], item["digest"], tuple(item["tags"]), cell_of(item), dist)
        for item in json.loads(report.read_text())["images"]
    )


def cell_of(item: dict[str, Any]) -> dict[str, str]:
    """The axes' values of an image in `build.json`."""
    return {name: item[name] for name in CELL_KEYS}


def read_references(dist: Path) -> dict[str, str]:
    """Manifest digest by reference name, as the layout's index says."""
    index = json.loads((dist / "index.json").read_text())
    return {item["annotations"][REF_NAME]: item["digest"] for item in index["manifests"]}


def matches(image: BuiltImage, selector: str) -> bool:
    """True when a term of the selector fits: a pattern, or words that each begin one of the id."""
    return selector == "all" or any(_fits(image.id, term) for term in selector.split(","))


def _fits(name: str, term: str) -> bool:
    if "*" in term:
        return fnmatchcase(name, term)
    words = name.split("-")
    return all(any(word.startswith(part) for word in words) for part in term.split("-"))


def read_pins(lock: Path) -> dict[str, str]:
    """Version by distribution name, from the lines `name==version` of a requirements.lock."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock.read_text(), re.MULTILINE)
    return {normalized(name): version for name, version in found}


def normalized(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def open_layer(path: Path) -> Any:
    """The tar inside a layer's blob: gzip with one member or many."""
    opened: Any = igzip.IGzipFile(path, "rb")  # type: ignore[no-untyped-call]
    return opened
