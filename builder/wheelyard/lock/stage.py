"""The lock stage: resolve the selected cells, parents first, and write each lock as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import TypeVar

from wheelyard.architecture import DEFAULT
from wheelyard.console.tasks import Reporter
from wheelyard.errors import LockError
from wheelyard.lock.apt import Apt, isolated_apt, release_date
from wheelyard.lock.changes import LockChange, pin_changes, pins, versions
from wheelyard.lock.debian import resolve_packages
from wheelyard.lock.inputs import (
    Cells,
    base_cells,
    cells_by_id,
    package_inputs,
    parent_of,
    requirements_inputs,
)
from wheelyard.lock.lockfile import read_requirements_lock, render_requirements_lock
from wheelyard.lock.packages import read_package_lock, render_package_lock
from wheelyard.lock.resolve import resolve_cell
from wheelyard.lock.snapshots import snapshot_id
from wheelyard.lock.sources import Source, debian_sources
from wheelyard.model import Cell, PackageLock, RequirementsLock
from wheelyard.settings import Settings
from wheelyard.system.textfiles import write_text
from wheelyard.system.threads import each

Lock = TypeVar("Lock", RequirementsLock, PackageLock)
_RESOLVERS = 4  # at once: uv waits for the index most of the time


@dataclass(frozen=True, slots=True)
class LockRun:
    """What all resolutions of one run share."""

    project: Path
    cells: Cells
    settings: Settings
    reporter: Reporter
    upgrade: bool  # True: take the newest versions; False: keep what is locked where possible


def families(selected: Iterable[Cell], plan: Iterable[Cell]) -> tuple[Cell, ...]:
    """Return the selected cells with all their ancestors and descendants, parents first.

    A lock holds its parent's pins, so a whole family is locked together or not at all.
    """
    everything = tuple(plan)
    cells = cells_by_id(everything)
    roots = {_line(cell, cells)[-1].id for cell in selected}
    members = [cell for cell in everything if _line(cell, cells)[-1].id in roots]
    return tuple(sorted(members, key=lambda cell: _generation(cell, cells)))


def _generation(cell: Cell, cells: Cells) -> tuple[int, bool]:
    """Return what orders locks: after the parent's, and after the default architecture's."""
    return len(_line(cell, cells)), cell.architecture != DEFAULT.name


def lock_images(lock_run: LockRun, cells: Sequence[Cell]) -> tuple[LockChange, ...]:
    """Write the requirements lock of each cell; `cells` are sorted parents first (see `families`).

    Cells of one generation are resolved in parallel. One failure does not stop the others:
    LockError at the end lists all that failed. FetchError (no index) ends the run at once.
    """
    done: dict[str, LockChange] = {}
    failed: dict[str, str] = {}
    with lock_run.reporter.task("resolving wheels", len(cells), "items") as task:

        def lock(cell: Cell) -> LockChange | str:
            outcome = _outcome(lock_run, cell, failed)
            task.advance(1)
            return outcome

        for _, members in groupby(cells, key=lambda cell: _generation(cell, lock_run.cells)):
            generation = list(members)
            outcomes = each(lock, generation, _RESOLVERS, "resolve")
            for cell, outcome in zip(generation, outcomes, strict=True):
                if isinstance(outcome, LockChange):
                    done[cell.id] = outcome
                else:
                    failed[cell.id] = outcome
    if failed:
        raise LockError("\n".join(failed.values()))
    return tuple(done.values())


def _outcome(lock_run: LockRun, cell: Cell, failed: Mapping[str, str]) -> LockChange | str:
    """Lock one cell, or say why it was not locked."""
    if cell.parent in failed:
        return f"{cell.id}: not locked, because {cell.parent} was not"
    try:
        return _lock_image(lock_run, cell)
    except LockError as problem:
        return str(problem)


def lock_bases(lock_run: LockRun, cells: Sequence[Cell]) -> tuple[LockChange, ...]:
    """Write the package lock of each base and flavour that `cells` use, parents first."""

    def archive(cell: Cell) -> tuple[str, str]:
        return cell.base.suite, cell.architecture  # amd64 comes before the others

    users = sorted(base_cells(cells).values(), key=archive)
    return tuple(
        change
        for (suite, architecture), members in groupby(users, key=archive)
        for change in _lock_suite(lock_run, suite, architecture, members)
    )


def _lock_suite(
    lock_run: LockRun, suite: str, architecture: str, members: Iterable[Cell]
) -> Iterator[LockChange]:
    cells = sorted(members, key=lambda cell: len(_line(cell, lock_run.cells)))  # parents first
    sources = debian_sources(suite, lock_run.settings, lock_run.reporter)
    with (
        lock_run.reporter.task(f"resolving Debian {suite}", len(cells), "items") as task,
        isolated_apt(
            sources, lock_run.settings, lock_run.reporter, architecture=architecture
        ) as apt,
    ):
        for cell in cells:
            yield _lock_base(lock_run, apt, sources, cell)
            task.advance(1)


def _lock_image(lock_run: LockRun, cell: Cell) -> LockChange:
    previous = _previous(lock_run, cell.lock, read_requirements_lock)
    above = parent_of(cell, lock_run.cells)
    lock = resolve_cell(
        cell,
        requirements_inputs(cell, lock_run.cells),
        None if above is None else read_requirements_lock(lock_run.project / above.lock),
        _preferred(lock_run, cell, previous, lambda x: x.lock, read_requirements_lock),
        lock_run.settings,
    )
    return _change(lock_run, cell.lock, previous, lock, render_requirements_lock(lock))


def _lock_base(lock_run: LockRun, apt: Apt, sources: Sequence[Source], cell: Cell) -> LockChange:
    previous = _previous(lock_run, cell.base_lock, read_package_lock)
    above, project = parent_of(cell, lock_run.cells), lock_run.project
    packages = resolve_packages(
        apt,
        sources,
        cell.flavour.packages,
        parent=versions(None if above is None else read_package_lock(project / above.base_lock)),
        preferred=_preferred(lock_run, cell, previous, lambda x: x.base_lock, read_package_lock),
        reporter=lock_run.reporter,
    )
    inputs = package_inputs(cell, lock_run.cells)
    date = snapshot_id(release_date(apt))
    if previous is not None and previous.date and previous.packages == packages:
        date = previous.date  # an archive that publishes every few hours must not touch the lock
    lock = PackageLock(
        cell.base.full_name, cell.flavour.name, cell.base.suite, inputs, packages, date
    )
    return _change(lock_run, cell.base_lock, previous, lock, render_package_lock(lock))


def _preferred(
    lock_run: LockRun,
    cell: Cell,
    previous: Lock | None,
    place: Callable[[Cell], PurePosixPath],
    read: Callable[[Path], Lock],
) -> dict[str, str]:
    """Return the versions to keep: those of the default architecture's lock, then of the own one.

    So images for several architectures share the layers that fit every processor.
    """
    sibling = lock_run.cells.get(cell.sibling, cell)
    other = None if sibling is cell else _previous(lock_run, place(sibling), read)
    return {**versions(other), **versions(None if lock_run.upgrade else previous)}


def _previous(lock_run: LockRun, path: PurePosixPath, read: Callable[[Path], Lock]) -> Lock | None:
    """Read the lock that is replaced; None, with a warning, if it cannot be read."""
    if not (lock_run.project / path).exists():
        return None
    try:
        return read(lock_run.project / path)
    except LockError as problem:
        lock_run.reporter.warn(f"{problem} (its pins are not kept)")
        return None


def _change(
    lock_run: LockRun, path: PurePosixPath, previous: Lock | None, lock: Lock, text: str
) -> LockChange:
    """Write a lock if it has changed, and say what did."""
    written, after = _write(lock_run.project / path, text), pins(lock)
    changes = pin_changes(pins(previous), after)
    return LockChange(path, len(after), written, previous is None, changes)


def _write(path: Path, text: str) -> bool:
    """Write only changed content, so that an unchanged lock keeps its time stamp."""
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    write_text(path, text)
    return True


def _line(cell: Cell, cells: Cells) -> tuple[Cell, ...]:
    """Return the cell, its parent, its parent's parent, and so on."""
    parent = parent_of(cell, cells)
    return (cell,) if parent is None else (cell, *_line(parent, cells))
