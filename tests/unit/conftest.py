"""No test here reaches the network or an engine."""

from hypothesis import settings
from isolation import isolated

__all__ = ["isolated"]

# A busy machine is not a slow function.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
