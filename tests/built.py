"""The images that `make build` left, for suites that take them to other tools."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.image.layout import BuiltImage, read_built
from tests.needs import missing

PREFERRED = "2.3.1"


def need_dist(config: pytest.Config) -> Path:
    """The image layout under test: --layout, WHEELYARD_DIST, or dist/."""
    given = config.getoption("--layout") or os.environ.get("WHEELYARD_DIST")
    folder = Path(given or Path(__file__).parents[1] / "dist").absolute()
    if not read_built(folder):
        missing(f"{folder}/build.json lists no image; run `make build` first")
    return folder


def need_runtime(dist: Path) -> BuiltImage:
    """PyTorch 2.3.1 for running, or the first image for running that there is."""
    return _need_flavour(dist, "runtime")


def need_devel(dist: Path) -> BuiltImage:
    """PyTorch 2.3.1 for development, or the first image for it that there is."""
    return _need_flavour(dist, "devel")


def _need_flavour(dist: Path, flavour: str) -> BuiltImage:
    found = [image for image in read_built(dist) if image.flavour == flavour]
    if not found:
        missing(f"{dist} holds no {flavour} image")
    wanted = [image for image in found if image.cell["framework_version"] == PREFERRED]
    return (wanted or found)[0]
