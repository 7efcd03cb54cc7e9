"""The images that `make build` left, for suites that take them to other tools."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.image.layout import BuiltImage, read_built
from tests.needs import missing

PREFERRED = "2.3.1"


def need_dist(config: pytest.Config) -> Path:
    """The image layout under test: --dist, WHEELYARD_DIST, or dist/."""
    given = config.getoption("--dist") or os.environ.get("WHEELYARD_DIST")
    folder = Path(given or Path(__file__).parents[1] / "dist").absolute()
    if not read_built(folder):
        missing(f"{folder}/build.json lists no image; run `make build` first")
    return folder


def need_runtime(dist: Path) -> BuiltImage:
    """PyTorch 2.3.1 for running, or the first image for running that there is."""
    runtimes = [image for image in read_built(dist) if image.flavour == "runtime"]
    if not runtimes:
        missing("dist holds no runtime image")
    wanted = [image for image in runtimes if image.cell["framework_version"] == PREFERRED]
    return (wanted or runtimes)[0]
