"""The lock stage: resolve what is selected, parents first, and write each lock whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import LockError
from wheelyard.lock.apt import Apt, isolated_apt, release_date
from wheelyard.lock.changes import LockChange, package_pins, pin_changes, requirements_pins
from wheelyard.lock.debian import pins, resolve_packages
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
from wheelyard.system.textfiles import write_text
from wheelyard.system.threads import each

if TYPE_CHECKING:
    from wheelyard.console.tasks import Reporter
    from wheelyard.settings import Settings

_RESOLVERS = 4  # at once: uv waits for the index most of the time


@dataclass(frozen=True, slots=True)
class Desk:
    """What every resolution of one run shares."""

    project: Path
    cells: Cells
    settings: Settings
    reporter: Reporter
    upgrade: bool  # True: take the newest versions; False: keep what is locked where possible


def families(selected: Iterable[Cell], plan: Iterable[Cell]) -> tuple[Cell, ...]:
    """Return the selected cells with all they extend and all that extends them, parents first.

    A lock holds its parent's pins, so a whole family moves together or not at all.
    """
    everything = tuple(plan)
    cells = cells_by_id(everything)
    roots = {_line(cell, cells)[-1].id for cell in selected}
    members = [cell for cell in everything if _line(cell, cells)[-1].id in roots]
    return tuple(sorted(members, key=lambda cell: len(_line(cell, cells))))


def lock_images(desk: Desk, cells: Sequence[Cell]) -> tuple[LockChange, ...]:
    """Write the requirements lock of each cell; `cells` come parents first (see `families`).

    Cells of one generation are resolved side by side. One that cannot be resolved does not stop
    the others: LockError at the end names all that failed. FetchError (no index) ends the run at
    once.
    """
    done: dict[str, LockChange] = {}
    failed: dict[str, str] = {}
    with desk.reporter.task("resolving wheels", len(cells), "items") as task:

        def lock(cell: Cell) -> LockChange | str:
            outcome = _outcome(desk, cell, failed)
            task.advance(1)
            return outcome

        for _, members in groupby(cells, key=lambda cell: len(_line(cell, desk.cells))):
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


def _outcome(desk: Desk, cell: Cell, failed: Mapping[str, str]) -> LockChange | str:
    """Lock one cell, or say why it is not locked."""
    if cell.parent in failed:
        return f"{cell.id}: not locked, because {cell.parent} is not"
    try:
        return _lock_image(desk, cell)
    except LockError as problem:
        return str(problem)


def lock_bases(desk: Desk, cells: Sequence[Cell]) -> tuple[LockChange, ...]:
    """Write the package lock of each base and flavour that `cells` use, parents first."""
    users = sorted(base_cells(cells).values(), key=lambda cell: cell.base.suite)
    return tuple(
        change
        for suite, members in groupby(users, key=lambda cell: cell.base.suite)
        for change in _lock_suite(desk, suite, _parents_first(members, desk.cells))
    )


def _lock_suite(desk: Desk, suite: str, cells: Sequence[Cell]) -> Iterator[LockChange]:
    sources = debian_sources(suite, desk.settings, desk.reporter)
    with (
        desk.reporter.task(f"resolving Debian {suite}", len(cells), "items") as task,
        isolated_apt(sources, desk.settings, desk.reporter) as apt,
    ):
        for cell in cells:
            yield _lock_base(desk, apt, sources, cell)
            task.advance(1)


def _lock_image(desk: Desk, cell: Cell) -> LockChange:
    previous = _previous_requirements(desk, cell)
    above = parent_of(cell, desk.cells)
    lock = resolve_cell(
        cell,
        requirements_inputs(cell, desk.cells),
        None if above is None else read_requirements_lock(desk.project / above.lock),
        None if desk.upgrade else previous,
        desk.settings,
    )
    written = _write(desk.project / cell.lock, render_requirements_lock(lock))
    changes = pin_changes(requirements_pins(previous), requirements_pins(lock))
    return LockChange(cell.lock, len(lock.wheels), written, previous is None, changes)


def _lock_base(desk: Desk, apt: Apt, sources: Sequence[Source], cell: Cell) -> LockChange:
    previous = _previous_packages(desk, cell)
    above = parent_of(cell, desk.cells)
    packages = resolve_packages(
        apt,
        sources,
        cell.flavour.packages,
        parent=pins(None if above is None else read_package_lock(desk.project / above.base_lock)),
        preferred=pins(None if desk.upgrade else previous),
        reporter=desk.reporter,
    )
    inputs = package_inputs(cell, desk.cells)
    date = snapshot_id(release_date(apt))
    if previous is not None and previous.date and previous.packages == packages:
        date = previous.date  # an archive that publishes every few hours must not touch the lock
    lock = PackageLock(cell.base.name, cell.flavour.name, cell.base.suite, inputs, packages, date)
    written = _write(desk.project / cell.base_lock, render_package_lock(lock))
    changes = pin_changes(package_pins(previous), package_pins(lock))
    return LockChange(cell.base_lock, len(packages), written, previous is None, changes)


def _previous_requirements(desk: Desk, cell: Cell) -> RequirementsLock | None:
    path = desk.project / cell.lock
    if not path.exists():
        return None
    try:
        return read_requirements_lock(path)
    except LockError as problem:
        desk.reporter.warn(f"{problem} (its pins are not kept)")
        return None


def _previous_packages(desk: Desk, cell: Cell) -> PackageLock | None:
    path = desk.project / cell.base_lock
    if not path.exists():
        return None
    try:
        return read_package_lock(path)
    except LockError as problem:
        desk.reporter.warn(f"{problem} (its pins are not kept)")
        return None


def _write(path: Path, text: str) -> bool:
    """Write only what differs, so that an unchanged lock keeps its time stamp."""
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    write_text(path, text)
    return True


def _line(cell: Cell, cells: Cells) -> tuple[Cell, ...]:
    """Return the cell, its parent, its parent's parent, and so on."""
    parent = parent_of(cell, cells)
    return (cell,) if parent is None else (cell, *_line(parent, cells))


def _parents_first(cells: Iterable[Cell], index: Cells) -> list[Cell]:
    return sorted(cells, key=lambda cell: len(_line(cell, index)))
