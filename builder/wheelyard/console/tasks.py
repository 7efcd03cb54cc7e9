"""The interface for messages and progress; other modules decide how these are shown."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from wheelyard.console.amounts import Unit


class Task(Protocol):
    """One piece of work under way; safe to advance from several threads."""

    def advance(self, amount: int) -> None:
        """Add `amount` bytes or items; negative after a restart."""

    def at(self, step: str) -> None:
        """Name what is done now, such as the check that runs."""


class Reporter(Protocol):
    """The channel for messages and progress; safe to use from several threads."""

    def info(self, message: str) -> None:
        """Show a message."""

    def warn(self, message: str) -> None:
        """Show a warning, also when quiet."""

    def task(self, label: str, total: int | None, unit: Unit) -> AbstractContextManager[Task]:
        """Show a piece of work while the context lasts; `total` is None if unknown."""


class ClosableReporter(Reporter, Protocol):
    """A reporter that its owner can close."""

    def close(self) -> None:
        """Restore the terminal, whatever work is still in progress."""
