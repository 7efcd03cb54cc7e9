"""A small project on the real base: a Dockerfile from the templates of all others, in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tiny import put_wheel, write_lock

from tests.lend import lend_bases
from tests.peers.command import wheelyard
from tests.peers.project import (
    REPOSITORY,
    lend_packages,
    machine_cache,
    real_base_project,
)
from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.contract.installer import load_installer
from wheelyard.dockerfiles.batch import make_jobs
from wheelyard.dockerfiles.prefetch import locate_content
from wheelyard.dockerfiles.wheelhouse import LOOPBACK, open_wheelhouse, remembered
from wheelyard.fetching.fetch import cached, fetch_all
from wheelyard.lock.index import locate
from wheelyard.lock.lockfile import read_requirements_lock
from wheelyard.lock.packages import read_package_lock
from wheelyard.model import Cell
from wheelyard.planning.plan import load_plan
from wheelyard.settings import Settings


def small_project(folder: Path, settings: Settings) -> Cell:
    """The project's one cell: `project` rendered, and its base in `bases`."""
    made = real_base_project(folder)
    (cell,) = made.plan.cells
    cache = folder / "cache"
    wheels = {**made.wheels, "pip": real_pip(cell, folder, settings)}
    put_wheel(cache, wheels["pip"])
    lend_installer(cache)
    write_lock(made, cell, list(wheels.values()))
    lend_packages(read_package_lock(made.folder / cell.base_lock), cache)
    lend_bases(made.plan.cells, made.plan, made.folder, machine_cache(), cache)
    for command in (["render"], ["base", "--no-load", "--output", str(folder / "bases")]):
        places = ["--project", str(made.folder), "--cache-dir", str(cache)]
        done = wheelyard([*command, *places], folder)
        assert done.returncode == 0, done.stderr
    return cell


@contextmanager
def wheelhouse(folder: Path, settings: Settings) -> Iterator[str]:
    """Serve the small project's wheels; the index's address."""
    own = replace(settings, project=folder / "project", cache_dir=folder / "cache")
    context = Context(own, QuietReporter(None))
    plan = load_plan(own.project)
    jobs, _ = make_jobs(plan.cells, plan, folder / "logs", context)
    with open_wheelhouse(locate_content(jobs, context), remembered(own)) as server:
        _name, port, token = server.host_name.split("-")
        yield f"http://{LOOPBACK}:{port}/{token}/simple"


def lend_installer(cache: Path) -> None:
    """Spare the download of what installs the wheels, where this machine has it."""
    wheel = load_installer("amd64")
    known = cached(machine_cache() / "files", wheel.sha256, wheel.filename, wheel.size)
    if known is not None:
        put_wheel(cache, known)


def real_pip(cell: Cell, folder: Path, settings: Settings) -> Path:
    """The pip that the repository's cell of the same name locks: a base's own must work."""
    lock = read_requirements_lock(REPOSITORY / cell.lock)
    (wheel,) = (wheel for wheel in lock.wheels if wheel.name == "pip")
    known = cached(machine_cache() / "files", wheel.sha256, wheel.filename, wheel.size)
    if known is not None:
        return known
    downloads = locate([wheel], cell.python, settings)
    return fetch_all(downloads, folder / "fetched", settings, QuietReporter(None))[wheel.sha256]
