"""Suites that run selfcheck once in every built image, and have a test for each of its checks."""

from __future__ import annotations

import pytest

from tests.gpu.report import Report
from tests.image.box import Box
from tests.image.conftest import (
    PLACES,
    Place,
    box,
    engine,
    fits,
    parametrize,
    pytest_collection_modifyitems,
    pytest_configure,
)

__all__ = [
    "box", "engine", "pytest_collection_modifyitems", "pytest_configure",
    "pytest_generate_tests", "report",
]  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every image once: in Docker where it is there, else in a chroot; podman gets no GPU here."""
    if "box" in metafunc.fixturenames or "report" in metafunc.fixturenames:
        node, places = metafunc.definition, dict[str, Place]()
        for place in metafunc.config.stash[PLACES]:
            if place[1] != "podman" and fits(place[0], node):
                places.setdefault(place[0].id, place)
        names = [f"{image.id}/{backend}" for image, backend in places.values()]
        reason = "no selected image of this kind, or neither a Docker Engine nor root to run it"
        parametrize(metafunc, "box", list(places.values()), names, reason)


@pytest.fixture(scope="session")
def report(box: Box, pytestconfig: pytest.Config) -> Report:
    """What the image's selfcheck says; each group is run when it is first asked for."""
    return Report(box, require_gpu=pytestconfig.getoption("--require-gpu"))
