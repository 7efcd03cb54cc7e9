"""No test here reaches the network or an engine."""

import gc

import pytest
from hypothesis import settings
from isolation import isolated

__all__ = ["isolated"]

# Files that take longest, by their own work and by what they wait for, longest first: a process
# that got one of them last would be alone with it at the end.
LONG = (
    "project_lock", "widths", "replies", "damage", "cli", "site", "supply", "streamed",
    "completion", "hostile_catalogue", "fetch", "signed_catalogue", "selfcheck", "bundle",
    "lock_command", "imports", "roots", "hostile_registry", "lock_debian", "estargz",
    "zstdchunked",
)  # fmt: skip

# A busy machine is not a slow function.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, for `--no-loadscope-reorder`."""
    places = {f"test_{name}.py": at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


def pytest_collection_finish() -> None:
    """Leave modules and tests out of garbage collections: 220,000 objects that stay."""
    gc.collect()
    gc.freeze()
