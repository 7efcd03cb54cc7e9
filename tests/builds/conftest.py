"""No test here reaches the network or an engine."""

from isolation import isolated

__all__ = ["isolated"]
