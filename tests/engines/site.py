"""A small project behind a company's mirror, with a login and a private CA."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from tests.engines.daemons import Engine
from tests.engines.network import ADDRESS
from tests.engines.small import small_project
from tests.peers.command import argv, environment
from tests.peers.island import HERE, Place
from tests.peers.mirror import HOST, Mirror, serve
from tests.peers.site import as_options, index_files
from wheelyard.console.progress import QuietReporter
from wheelyard.contract.installer import load_installer
from wheelyard.fetching.fetch import fetch_all
from wheelyard.fetching.wanted import place as place_of
from wheelyard.lock.index import locate
from wheelyard.lock.lockfile import read_requirements_lock
from wheelyard.model import Cell
from wheelyard.planning.plan import load_plan
from wheelyard.settings import Settings

Result = subprocess.CompletedProcess[str]
TIMEOUT = 600


@dataclass(frozen=True)
class SmallSite:
    """The project, its one cell, the mirror, and a cache without wheels."""

    folder: Path
    cell: Cell
    mirror: Mirror
    ca_file: Path
    place: Place  # where the mirror is, and from where builds are started

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def start(
        self, engine: Engine, *arguments: str | Path, under: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        """Start `wheelyard build all` as a user of this site does, by the program `under`."""
        settings = {"index-url": f"{self.mirror.base}/simple/", "ca-bundle": str(self.ca_file)}
        given = [*arguments, "--project", self.project, "--cache-dir", self.folder / "cache"]
        return self.place.call(
            lambda: subprocess.Popen(
                [*under, *argv("build", "all", *given, *as_options(settings))],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=self.folder,
                env=environment(self.folder, **engine.client_settings),
            )
        )

    def build(self, engine: Engine, *arguments: str | Path, under: Sequence[str] = ()) -> Result:
        process = self.start(engine, "--output", self.folder / "dist", *arguments, under=under)
        stdout, stderr = process.communicate(timeout=TIMEOUT)
        return Result(process.args, process.returncode, stdout, stderr)

    def forget_wheels(self) -> None:
        """Let the next build ask the mirror for every wheel."""
        for path in (self.folder / "cache" / "files").glob("*/*/*.whl"):
            path.unlink()


def built(result: Result) -> Mapping[str, Any]:
    """The one image that a build with --json says it made."""
    assert result.returncode == 0, result.stderr
    (image,) = json.loads(result.stdout)
    assert "error" not in image
    found: Mapping[str, Any] = image
    return found


@contextmanager
def open_small_site(folder: Path, settings: Settings, place: Place = HERE) -> Iterator[SmallSite]:
    """The site for as long as the context lasts; on a place of its own, a bridge leads to it."""
    small_project(folder, settings)
    (cell,) = load_plan(folder / "project").cells
    cache = folder / "cache" / "files"
    own = locate([load_installer(cell.architecture)], cell.python, settings)
    fetch_all(own, cache, settings, QuietReporter(None))  # if it was not lent
    shelf, files = folder / "shelf", dict[str, Path | bytes]()
    shelf.mkdir()
    for wheel in (
        load_installer(cell.architecture),
        *read_requirements_lock(folder / "project" / cell.lock).wheels,
    ):
        known = place_of(cache, wheel.sha256, wheel.filename)
        files |= index_files(wheel.name, Path(shutil.copy(known, shelf / wheel.filename)))
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "corporate.pem"))
    host = HOST if place is HERE else ADDRESS
    with serve(Mirror(files, {}, ca, host), place) as mirror:
        site = SmallSite(folder, cell, mirror, folder / "corporate.pem", place)
        site.forget_wheels()
        yield site
