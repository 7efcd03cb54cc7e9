"""What is there before the clock starts: locks, wheels, a base, and somewhere to work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmark.engines.projects import REPOSITORY, copy_file, wheelyard, write_matrix
from tests.benchmark.engines.stage import INTERPRETERS
from tests.engines.daemons import Kind
from tests.lend import lend_bases
from wheelyard.console.progress import QuietReporter
from wheelyard.fetching.fetch import fetch_all
from wheelyard.fetching.wanted import cached
from wheelyard.lock.index import locate
from wheelyard.lock.lockfile import read_requirements_lock
from wheelyard.model import Cell
from wheelyard.planning.plan import load_plan
from wheelyard.settings import Settings
from wheelyard.system.storage import link_or_copy

# In the order in which they are published. The last two differ in one wheel, torch.
IMAGES = {"first": "2.3.1", "next": "2.2.1", "patch": "2.2.2"}
# Not in the matrix: locked again, from the lock of a neighbour.
LOCKED_LIKE = {"2.2.1": "2.2.2", "2.3.0": "2.3.1"}
PROXIES = ("http_proxy", "HTTP_PROXY")


@dataclass(frozen=True, slots=True)
class Site:
    """A project of a few images whose wheels are on the disk."""

    folder: Path  # for gigabytes, gone afterwards
    settings: Settings
    kind: Kind  # of engine
    cells: Mapping[str, Cell]  # by the words of IMAGES
    stores: Path | None = None  # where engines unpack, if not in `folder`

    @property
    def project(self) -> Path:
        """The images' matrix and locks, without a record of layers."""
        return self.folder / "project"

    @property
    def log(self) -> Path:
        """What measured programs said."""
        return self.folder / "log"

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of measured programs."""
        kept = {name: value for name, value in os.environ.items() if name not in PROXIES}
        return {**kept, "PYTHONPATH": str(REPOSITORY / "builder"), **more}

    def link_wheels(self, image: str, folder: Path) -> None:
        """The locked wheels of an image, and no other file, in a folder."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        files = self.settings.cache_dir / "files"
        for wheel in read_requirements_lock(self.project / self.cells[image].lock).wheels:
            found = cached(files, wheel.sha256, wheel.filename)
            assert found is not None
            link_or_copy(found, folder / wheel.filename)

    def new_cache(self) -> Path:
        """Wheels and the base; no layer of a wheel."""
        cache = self.folder / "cache"
        cache.mkdir()
        for name in ("files", INTERPRETERS):
            (self.settings.cache_dir / name).mkdir(parents=True, exist_ok=True)
            (cache / name).symlink_to(self.settings.cache_dir / name)
        plan = load_plan(self.project)
        lend_bases(plan.cells, plan, self.project, self.settings.cache_dir, cache)
        return cache


def prepare(
    folder: Path, settings: Settings, kind: Kind, images: Mapping[str, str] = IMAGES
) -> Site:
    """Lock and fetch what is not there yet: the last that needs a network."""
    project = folder / "project"
    write_matrix(REPOSITORY, project, list(images.values()))
    cells = {cell.framework_version: cell for cell in load_plan(project).cells}
    site = Site(folder, settings, kind, {word: cells[version] for word, version in images.items()})
    for version, cell in cells.items():
        copy_file(cell.base_lock, project)
        like = LOCKED_LIKE.get(version)
        if like is None:
            copy_file(cell.lock, project)
        else:
            target = project / cell.lock
            target.parent.mkdir(parents=True)
            shutil.copy(REPOSITORY / cells[like].lock, target)
            wheelyard(project, "lock", cell.id)
    for cell in cells.values():
        fetch_wheels(project, cell, settings)
    return site


def fetch_wheels(project: Path, cell: Cell, settings: Settings) -> None:
    """Have a cell's wheels in the user's cache."""
    files = settings.cache_dir / "files"
    wheels = read_requirements_lock(project / cell.lock).wheels
    missing = [wheel for wheel in wheels if not cached(files, wheel.sha256, wheel.filename)]
    fetch_all(locate(missing, cell.python, settings), files, settings, QuietReporter(None))
