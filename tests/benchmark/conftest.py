"""Training inside images, by the same fixtures as tests/gpu."""

from __future__ import annotations

from tests.gpu.conftest import (
    box,
    engine,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_generate_tests,
    report,
)

__all__ = [
    "box", "engine", "pytest_collection_modifyitems", "pytest_configure",
    "pytest_generate_tests", "report",
]  # fmt: skip
