"""What all engines that build Dockerfiles share: jobs in, one result each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from wheelyard.context import Context
from wheelyard.errors import DriftError
from wheelyard.images.build.results import EngineImage, Failed
from wheelyard.lock.stages import Stage, load_stages
from wheelyard.model import Cell, Plan
from wheelyard.rendering.bakefile import DOCKERFILE
from wheelyard.rendering.render import render_cell
from wheelyard.rendering.steps import Locks
from wheelyard.system.failures import reported
from wheelyard.system.timing import timed


@dataclass(slots=True)
class EngineBuild:
    """One image to build."""

    cell: Cell
    stages: tuple[Stage, ...]
    folder: Path  # holds the Dockerfiles
    log: Path
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def locks(self) -> tuple[Locks, ...]:
        """The locks of its flavours, the lowest first."""
        return tuple(Locks(stage.lock, stage.packages) for stage in self.stages)

    def timed(self, part: str) -> AbstractContextManager[None]:
        """Add the time of the block to `part`."""
        return timed(self.seconds, part)


@dataclass(frozen=True, slots=True)
class Options:
    """How an engine should build."""

    output: Path  # for logs, bases, and what is not loaded
    network: str | None = None  # of the RUN steps; None: the engine's choice
    load: bool | None = None  # into the engine, under the tags; None: if one answers
    fail_fast: bool = False


class Engine(Protocol):
    """An engine that is ready: it answers, and has the bases."""

    def build(self, job: EngineBuild) -> EngineImage:
        """Build one image; raise WheelyardError."""


def make_jobs(
    cells: Sequence[Cell], plan: Plan, output: Path, context: Context
) -> tuple[list[EngineBuild], list[Failed]]:
    """Return the images to build, and those that cannot be built."""
    jobs, failed = [], []
    for cell in cells:
        try:
            jobs.append(_make_job(cell, plan, output, context))
        except Exception as error:  # noqa: BLE001 - the others are built whatever it was
            failed.append(Failed(cell, reported(error, cell.id, context.reporter)))
    return jobs, failed


def _make_job(cell: Cell, plan: Plan, output: Path, context: Context) -> EngineBuild:
    """Return an image to build; DriftError if a Dockerfile differs from what would be rendered."""
    project = context.settings.project
    folder = project / cell.folder
    path, text = folder / DOCKERFILE, render_cell(project, cell, plan.cells)
    if not path.is_file() or path.read_bytes() != text.encode():
        raise DriftError(f"{path} does not match the locks; run `wheelyard render`")
    stages = load_stages(cell, plan, project)
    return EngineBuild(cell, stages, folder, output / "logs" / f"{cell.id}.log")


def run_batch(
    engine: Engine, jobs: Sequence[EngineBuild], context: Context, *, fail_fast: bool
) -> list[EngineImage | Failed]:
    """Build one image after the other; one failure does not stop the others."""
    results: list[EngineImage | Failed] = []
    for job in jobs:
        try:
            results.append(engine.build(job))
        except Exception as error:  # noqa: BLE001 - the next image is built whatever it was
            failure = reported(error, job.cell.id, context.reporter, job.log)
            results.append(Failed(job.cell, failure))
            if fail_fast:
                break
    return results
