"""What there is to choose from: every image with what decides whether it runs on a machine. Pure.

Made from the plan and, where they were built, the images themselves; published beside them as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from builder.engines.archive import shared_layers
from builder.errors import RegistryError
from builder.upstream.facts import release_of

if TYPE_CHECKING:
    from builder.model import Cell
    from builder.upstream.facts import Upstream

VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
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
    special: bool = False  # differs from what upstream pins: only for those who ask for it
    digest: str | None = None  # of the manifest; None: not built
    layers: tuple[tuple[str, int], ...] = ()  # (diff_id, compressed bytes), lowest first
    unpacked: int | None = None  # bytes


def plan_entries(
    cells: Iterable[Cell], upstream: Upstream, built: Iterable[Mapping[str, Any]]
) -> tuple[Entry, ...]:
    """The catalogue of a plan; `built` are the images of a `build.json`."""
    known = {str(image["id"]): image for image in built}
    return tuple(_entry(cell, upstream, known.get(cell.id)) for cell in cells)


def _entry(cell: Cell, upstream: Upstream, image: Mapping[str, Any] | None) -> Entry:
    layers = [] if image is None else image["layers"]
    return Entry(
        id=cell.id,
        tags=cell.tags,
        framework=cell.framework,
        framework_version=cell.framework_version,
        cuda=cell.cuda,
        cudnn=cell.cudnn,
        python=cell.python,
        flavour=cell.flavour.name,
        architectures=tuple(release_of(upstream, pin).architectures for pin in cell.frameworks),
        special=bool(cell.overrides),
        digest=None if image is None else str(image["digest"]),
        layers=tuple((str(layer["diff_id"]), int(layer["size"])) for layer in layers),
        unpacked=None if image is None else int(image["unpacked_bytes"]),
    )


def to_json(entries: Iterable[Entry]) -> dict[str, Any]:
    """The catalogue as it is published."""
    return {"version": VERSION, "images": [asdict(entry) for entry in entries]}


def from_json(content: object) -> tuple[Entry, ...]:
    """Read what `to_json` gave; raises RegistryError for anything else."""
    try:
        if content["version"] != VERSION:  # type: ignore[index]
            raise RegistryError("the catalogue is of another version of wheelyard; update it")
        return tuple(_read(image) for image in content["images"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError) as error:
        raise RegistryError(f"the catalogue cannot be read ({error!r})") from error


def _read(image: Mapping[str, Any]) -> Entry:
    kept = {name: image[name] for name in Entry.__dataclass_fields__ if name in image}
    return Entry(
        **kept
        | {
            "tags": tuple(map(str, image["tags"])),
            "architectures": tuple(tuple(map(str, one)) for one in image["architectures"]),
            "layers": tuple((str(diff_id), int(size)) for diff_id, size in image["layers"]),
        }
    )


def merge(old: Iterable[Entry], new: Iterable[Entry]) -> tuple[Entry, ...]:
    """Both, by id; a tag belongs to the newer entry, and one without tags is gone."""
    fresh = {entry.id: entry for entry in new}
    taken = {tag for entry in fresh.values() for tag in entry.tags}
    kept = (entry for entry in old if entry.id not in fresh and entry.tags[0] not in taken)
    return tuple(sorted((*kept, *fresh.values()), key=lambda entry: entry.id))


def pull_bytes(entry: Entry, present: Iterable[Sequence[str]]) -> int | None:
    """What a pull costs beside images whose diff_ids are `present`; None: sizes are not known."""
    if not entry.layers:
        return None
    there = shared_layers([diff_id for diff_id, _ in entry.layers], present)
    return sum(size for _, size in entry.layers[there:])
