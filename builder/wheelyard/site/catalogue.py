"""What the site says of each image, from the plan, the locks, images/layers.json and reports."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wheelyard.architecture import ARCHITECTURES
from wheelyard.context import Context
from wheelyard.images.assemble.planned import planned_layers
from wheelyard.images.assemble.record import LayersRecord, read_record
from wheelyard.images.build.report import read_report
from wheelyard.images.build.sharing import Part, image_parts, to_pull
from wheelyard.lock.stages import Stage, load_stages
from wheelyard.model import Cell, Plan
from wheelyard.planning.catalogue import CatalogueEntry, plan_entries
from wheelyard.planning.drivers import DriverFloor, driver_floor, driver_table
from wheelyard.planning.facts import CPU
from wheelyard.planning.plan import load_inputs
from wheelyard.planning.provenance import Provenance, provenance
from wheelyard.publish.known import known_images

_NEAREST = 5  # siblings that a page names


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """One layer of an image, as its page shows it."""

    title: str
    size: int  # bytes, compressed
    images: int  # of the matrix that have it, this one included


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """One image, as its page shows it."""

    cell: Cell
    entry: CatalogueEntry
    origin: Provenance
    floor: DriverFloor | None  # None: for the CPU
    nccl: str | None
    stages: tuple[Stage, ...]
    layers: tuple[LayerFacts, ...]  # lowest first
    nearest: tuple[tuple[str, int], ...]  # id, bytes to pull for it where this image is
    inspected: Mapping[str, str]  # what a build's inspection saw; empty: not recorded
    verified: Mapping[str, Any] | None  # of `wheelyard verify`, where its report has the image

    @property
    def packed(self) -> int:
        """Return its compressed bytes, by the record where that has a layer, else by the locks."""
        return sum(layer.size for layer in self.layers)


def read_images(context: Context, reports: Path | None = None) -> tuple[ImageFacts, ...]:
    """Return the facts of every image of the project; `reports` is a folder of `verify`."""
    project = context.settings.project
    _matrix, upstream, plan = load_inputs(project)
    record = read_record(project)
    stages = {cell.id: load_stages(cell, plan, project) for cell in plan.cells}
    parts = {name: image_parts(those, _sizes(record)) for name, those in stages.items()}
    counts = Counter(part.key for those in parts.values() for part in those)
    built = {str(image["id"]): image for image in _described(plan, stages, record, context)}
    entries = plan_entries(plan.cells, upstream, built.values())
    verified = _verified(reports)
    return tuple(
        ImageFacts(
            cell=cell,
            entry=entry,
            origin=provenance(cell, upstream, _pins(stages[cell.id])),
            floor=None if cell.cuda == CPU else driver_floor(cell.cuda),
            nccl=_nccl(stages[cell.id]),
            stages=stages[cell.id],
            layers=_layers(stages[cell.id], parts[cell.id], entry, counts),
            nearest=_nearest(cell, plan, parts),
            inspected=built[cell.id]["inspected"] if cell.id in built else {},
            verified=verified.get(str(entry.digest)),
        )
        for cell, entry in zip(plan.cells, entries, strict=True)
    )


def picker_data(entries: Iterable[CatalogueEntry]) -> dict[str, Any]:
    """Return what `pick` in the page goes by: images without layers, machines, driver floors."""
    left_out = ("layers", "unpacked", "digest", "cudnn")
    images = [
        {name: value for name, value in asdict(entry).items() if name not in left_out}
        for entry in entries
    ]
    machines = {name: architecture.machine for name, architecture in ARCHITECTURES.items()}
    floors = {name: driver_table()[name] for name in ("minor_version", "native", "generations")}
    return {"images": images, "machines": machines, "drivers": floors}


def _sizes(record: LayersRecord) -> Any:
    return lambda key: record.layers[key].size if key in record.layers else None


def _described(
    plan: Plan, stages: Mapping[str, tuple[Stage, ...]], record: LayersRecord, context: Context
) -> list[dict[str, Any]]:
    """Return the images whose layers are all recorded, as a build reports them, with digests."""
    cells = [
        cell
        for cell in plan.cells
        if cell.id in record.images
        and all(layer.key in record.layers for layer in planned_layers(stages[cell.id]))
    ]
    with known_images(
        cells, plan, context, only_recorded=True, verify=False, unverified=True
    ) as source:
        return read_report(source.layout.folder)


def _layers(
    stages: Sequence[Stage], parts: Sequence[Part], entry: CatalogueEntry, counts: Mapping[str, int]
) -> tuple[LayerFacts, ...]:
    sizes = [size for _, size in entry.layers] or [part.size for part in parts]
    titles = [layer.title for layer in planned_layers(stages)] + ["selfcheck and the cell"]
    return tuple(
        LayerFacts(title, size, counts[part.key])
        for title, size, part in zip(titles, sizes, parts, strict=True)
    )


def _nearest(
    cell: Cell, plan: Plan, parts: Mapping[str, Sequence[Part]]
) -> tuple[tuple[str, int], ...]:
    """Return the images for the same machine that cost the fewest bytes beside this one."""
    costs = [
        (to_pull(parts[other.id], parts[cell.id])[0], other.id)
        for other in plan.cells
        if other.architecture == cell.architecture and other.id != cell.id
    ]
    return tuple((other, size) for size, other in sorted(costs)[:_NEAREST])


def _pins(stages: Sequence[Stage]) -> dict[str, str]:
    return {wheel.name: wheel.version for wheel in stages[-1].lock.wheels}


def _nccl(stages: Sequence[Stage]) -> str | None:
    versions = [v for name, v in _pins(stages).items() if name.startswith("nvidia-nccl")]
    return versions[0] if versions else None


def _verified(reports: Path | None) -> dict[str, Mapping[str, Any]]:
    """Return the results of `wheelyard verify`, by digest; empty without a report."""
    path = reports / "report.json" if reports is not None else None
    if path is None or not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return {str(image["digest"]): image for image in content["images"]}
