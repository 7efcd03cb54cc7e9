"""The catalogue: every image with what decides whether it runs on a machine. Pure.

Made from the plan and from the images that were built; published beside them as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from wheelyard.architecture import DEFAULT
from wheelyard.errors import RegistryError
from wheelyard.model import Cell
from wheelyard.oci.archive import shared_layers
from wheelyard.oci.documents import (
    Architecture,
    Bytes,
    CellLabel,
    Counter,
    Document,
    ImageTag,
    Processor,
    Sha256,
    UnreadableError,
    read_document,
)
from wheelyard.planning.facts import Upstream, for_architecture, release_of

VERSION = 1


class _UntrustedCatalogue(Document):
    """A catalogue as read from an untrusted source."""

    version: int
    counter: Counter = 0
    images: list[Any] = Field(max_length=4096)


class _Image(CellLabel):
    """One of its entries: the fields of `CatalogueEntry`."""

    tags: tuple[ImageTag, ...] = Field(min_length=1, max_length=64)
    architectures: tuple[Annotated[tuple[Architecture, ...], Field(max_length=64)], ...] = Field(
        max_length=8
    )
    architecture: Processor = DEFAULT.name
    special: bool = False
    digest: Sha256 | None = None
    layers: tuple[tuple[Sha256, Bytes], ...] = Field((), max_length=512)
    unpacked: Bytes | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.framework.count("+") != self.framework_version.count("+"):
            raise ValueError("the numbers of versions and frameworks differ")
        name = self.framework.replace("+", "-")
        if any(tag.partition(":")[0] != name for tag in self.tags):
            raise ValueError(f"a tag does not belong to {name}")
        return self


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One image of a catalogue."""

    id: str
    tags: tuple[str, ...]  # the full tag first
    framework: str  # several are joined by `+`
    framework_version: str
    cuda: str  # "12.1", or "cpu"
    cudnn: str
    python: str
    flavour: str
    architectures: tuple[tuple[str, ...], ...]  # of each framework: "sm_90", "compute_90" (PTX)
    architecture: str = DEFAULT.name  # of the processor, where `architectures` are the GPU's
    special: bool = False  # differs from what upstream pins: only for those who ask for it
    digest: str | None = None  # of the manifest; None: not built
    layers: tuple[tuple[str, int], ...] = ()  # (diff_id, compressed bytes), lowest first
    unpacked: int | None = None  # bytes


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A published catalogue that was read."""

    entries: tuple[CatalogueEntry, ...] = ()
    counter: int = 0  # rises with every change, so that an older catalogue is recognised
    faults: tuple[str, ...] = ()  # what was left out, and why


def plan_entries(
    cells: Iterable[Cell], upstream: Upstream, built: Iterable[Mapping[str, Any]]
) -> tuple[CatalogueEntry, ...]:
    """Return the catalogue of a plan; `built` are the images of a `build.json`."""
    known = {str(image["id"]): image for image in built}
    return tuple(_entry(cell, upstream, known.get(cell.id)) for cell in cells)


def _entry(cell: Cell, upstream: Upstream, image: Mapping[str, Any] | None) -> CatalogueEntry:
    layers = [] if image is None else image["layers"]
    facts = for_architecture(upstream, cell.architecture)
    return CatalogueEntry(
        id=cell.id,
        tags=cell.tags,
        framework=cell.framework,
        framework_version=cell.framework_version,
        cuda=cell.cuda,
        cudnn=cell.cudnn,
        python=cell.python,
        flavour=cell.flavour.name,
        architectures=tuple(release_of(facts, pin).architectures for pin in cell.frameworks),
        architecture=cell.architecture,
        special=bool(cell.overrides),
        digest=None if image is None else str(image["digest"]),
        layers=tuple((str(layer["diff_id"]), int(layer["size"])) for layer in layers),
        unpacked=None if image is None else int(image["unpacked_bytes"]),
    )


def to_json(entries: Iterable[CatalogueEntry], counter: int = 0) -> dict[str, Any]:
    """Return the catalogue as it is published."""
    images = [asdict(entry) for entry in entries]
    return {"version": VERSION, "counter": counter, "images": images}


def read_catalogue(data: bytes) -> Catalogue:
    """Read what `to_json` wrote; a malformed entry is left out and described in the faults.

    Raises UnreadableError for anything else, and RegistryError for another version's catalogue.
    """
    content = read_document(_UntrustedCatalogue, data)
    if content.version != VERSION:
        raise RegistryError(
            "the catalogue was written by another version of wheelyard; update wheelyard"
        )
    entries: dict[str, CatalogueEntry] = {}
    faults = []
    for at, image in enumerate(content.images):
        try:
            read = read_document(_Image, json.dumps(image))
        except (UnreadableError, ValueError) as error:
            faults.append(f"image {at}: {error}")
            continue
        if read.id in entries:
            faults.append(f"image {at}: {read.id} is listed twice")
            continue
        entries[read.id] = CatalogueEntry(**dict(read))
    return Catalogue(tuple(entries.values()), content.counter, tuple(faults))


def merge(
    old: Iterable[CatalogueEntry], new: Iterable[CatalogueEntry]
) -> tuple[CatalogueEntry, ...]:
    """Merge by id; a tag belongs to the newer entry, and an entry without tags is dropped."""
    fresh = {entry.id: entry for entry in new}
    taken = {tag for entry in fresh.values() for tag in entry.tags}
    kept = (entry for entry in old if entry.id not in fresh and entry.tags[0] not in taken)
    return tuple(sorted((*kept, *fresh.values()), key=lambda entry: entry.id))


def pull_bytes(entry: CatalogueEntry, present: Iterable[Sequence[str]]) -> int | None:
    """Return the cost of a pull beside images with these diff_ids; None if sizes are unknown."""
    if not entry.layers:
        return None
    there = shared_layers([diff_id for diff_id, _ in entry.layers], present)
    return sum(size for _, size in entry.layers[there:])
