"""Where the benchmark works: a scratch folder beside the cache, and the builds it measures."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.benchmark.measure import say
from tests.lend import lend_bases
from wheelyard.errors import WheelyardError
from wheelyard.fetching.fetch import cached
from wheelyard.images.assemble.interpreter import interpreter_identity
from wheelyard.images.build.report import read_report
from wheelyard.lock.stages import Stage, load_stages
from wheelyard.planning.plan import load_plan
from wheelyard.planning.selector import select
from wheelyard.system.subprocesses import run

IMAGE = "pytorch-2.3.1-runtime"
SOURCES = ("files", "interpreters")  # what a build that knows the base only starts from


@dataclass(frozen=True, slots=True)
class Place:
    """The project, the user's cache, and a folder of ours on the cache's file system."""

    project: Path
    cache: Path
    folder: Path
    image: str = IMAGE  # selector of the one image that is measured
    dist: Path | None = None  # a layout that holds it already; None: it is built

    def new(self, prefix: str) -> Path:
        """A new empty folder."""
        return Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=self.folder))

    def new_cache(self) -> Path:
        """A cache that has every download and the base, and knows no layer of a wheel."""
        folder = self.new("cache")
        for name in SOURCES:
            (self.cache / name).mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(self.cache / name)
        plan = load_plan(self.project)
        lend_bases(select(plan, self.image), plan, self.project, self.cache, folder)
        return folder


def build_command(image: str, output: Path, cache: Path, *options: str) -> list[str]:
    """Argument list of the build that is measured."""
    return [
        sys.executable, "-m", "wheelyard", "--quiet", "build", image, "--no-load",
        "--output", str(output), "--cache-dir", str(cache), *options,
    ]  # fmt: skip


def build(place: Place, output: Path, cache: Path, *options: str) -> None:
    """Build the image in a process of its own; WheelyardError with its log if that fails."""
    run(
        build_command(place.image, output, cache, *options),
        error=WheelyardError,
        what="the build",
        cwd=place.project,
    )


@lru_cache
def prepared(place: Place) -> Path:
    """A layout with the image, made with the user's cache: afterwards everything is fetched."""
    if place.dist is not None:
        return place.dist
    say(f"building {place.image} with your cache, unmeasured")
    output = place.new("image")
    build(place, output, place.cache)
    if not complete(place):
        say("building it once more from files, unmeasured, to have them all")
        cache, again = place.new_cache(), place.new("image")
        build(place, again, cache)
        shutil.rmtree(again)
        shutil.rmtree(cache)
    return output


def complete(place: Place) -> bool:
    """Tell whether the user's cache has all that a build from files needs, so that none fetches."""
    stage = stage_of(place)
    interpreter = place.cache / "interpreters" / interpreter_identity(stage.compiling.packages)
    return interpreter.exists() and len(wheel_files(place)) == len(stage.lock.wheels)


@lru_cache
def stage_of(place: Place) -> Stage:
    """The image's cell and locks."""
    plan = load_plan(place.project)
    (cell,) = select(plan, place.image)
    return load_stages(cell, plan, place.project)[-1]


def wheel_files(place: Place) -> list[Path]:
    """The image's wheels in the cache, those that are there."""
    found = (
        cached(place.cache / "files", wheel.sha256, wheel.filename, wheel.size)
        for wheel in stage_of(place).lock.wheels
    )
    return [path for path in found if path]


def record(output: Path) -> dict[str, Any]:
    """What build.json says of the image."""
    (image,) = read_report(output)
    return image


def read_once(paths: list[Path]) -> None:
    """Bring files into the page cache."""
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 22):
                pass
