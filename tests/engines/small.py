"""A small project on the real base: a Dockerfile from the templates of all others, in seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

from tiny import put_wheel, write_lock

from builder.fetch import cached, fetch_all
from builder.index import locate
from builder.lock.lockfile import read_requirements_lock
from builder.lock.packages import read_package_lock
from builder.model import Cell
from builder.progress import QuietReporter
from builder.settings import Settings
from tests.peers.command import wheelyard
from tests.peers.project import (
    REPOSITORY,
    lend_packages,
    link_tree,
    machine_cache,
    real_base_project,
)


def small_project(folder: Path, settings: Settings) -> Cell:
    """The project's one cell: `project` rendered, its base in `bases`, its wheels on `shelf`."""
    made = real_base_project(folder)
    (cell,) = made.plan.cells
    cache = folder / "cache"
    wheels = {**made.wheels, "pip": real_pip(cell, folder, settings)}
    (folder / "shelf").mkdir()
    for wheel in wheels.values():
        shutil.copy(wheel, folder / "shelf")
    put_wheel(cache, wheels["pip"])
    write_lock(made, cell, list(wheels.values()))
    lend_packages(read_package_lock(made.folder / cell.base_lock), cache)
    if (known := machine_cache() / "rootfs").exists():
        link_tree(known, cache / "rootfs")
    for command in (["render"], ["base", "--no-load", "--output", str(folder / "bases")]):
        places = ["--project", str(made.folder), "--cache-dir", str(cache)]
        done = wheelyard([*command, *places], folder)
        assert done.returncode == 0, done.stderr
    return cell


def real_pip(cell: Cell, folder: Path, settings: Settings) -> Path:
    """The pip that the repository's cell of the same name locks: a base's own must work."""
    lock = read_requirements_lock(REPOSITORY / cell.lock)
    (wheel,) = (wheel for wheel in lock.wheels if wheel.name == "pip")
    known = cached(machine_cache() / "files", wheel.sha256, wheel.filename, wheel.size)
    if known is not None:
        return known
    downloads = locate([wheel], cell.python, settings)
    return fetch_all(downloads, folder / "fetched", settings, QuietReporter(None))[wheel.sha256]
