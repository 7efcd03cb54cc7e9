"""Builds of what is known already: into an empty folder, and where nothing changed at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.benchmark.measure import Measurement, interleaved, median, rounded, timed
from tests.benchmark.place import Place, build, prepared

LIMIT, UNCHANGED_LIMIT = 3.0, 1.0  # seconds


def measure(place: Place, runs: int | None) -> list[Measurement]:
    """Both builds, beside hard links to the same blobs and the start of the same Python."""
    image = prepared(place)
    values = interleaved(
        runs or 5,
        {
            "known": lambda: into_new_folder(place),
            "links": lambda: _links(place, image),
            "unchanged": lambda: timed(lambda: build(place, image, place.cache)),
            "python": lambda: timed(partial(_run, [sys.executable, "-c", "pass"])),
        },
    )
    middle = {name: median(seconds) for name, seconds in values.items()}
    runs_of = {name: {"runs": rounded(seconds)} for name, seconds in values.items()}
    return [
        Measurement(
            "known", "build, layers known, empty folder", middle["known"], "seconds",
            "cp -al of the same layout", middle["links"], LIMIT, details=runs_of["known"],
        ),
        Measurement(
            "unchanged", "build, nothing changed", middle["unchanged"], "seconds",
            "python -c pass", middle["python"], UNCHANGED_LIMIT, details=runs_of["unchanged"],
        ),
    ]  # fmt: skip


def into_new_folder(place: Place) -> float:
    """Seconds of a build of known layers into an empty folder."""
    output = place.new("output")
    seconds = timed(lambda: build(place, output, place.cache))
    shutil.rmtree(output)
    return seconds


def _links(place: Place, image: Path) -> float:
    target = place.new("links")
    seconds = timed(lambda: _run(["cp", "-al", f"{image}/.", str(target)]))
    shutil.rmtree(target)
    return seconds


def _run(argv: list[str]) -> None:
    subprocess.run(argv, check=True)
