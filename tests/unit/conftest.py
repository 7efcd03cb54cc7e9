"""No test here reaches the network or an engine."""

import gc

from hypothesis import settings
from isolation import isolated

__all__ = ["isolated"]

# A busy machine is not a slow function.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_collection_finish() -> None:
    """Leave modules and tests out of garbage collections: 220,000 objects that stay."""
    gc.collect()
    gc.freeze()
