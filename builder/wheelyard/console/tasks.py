"""What a run may say while it works; how that is shown is another module's business."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from wheelyard.console.amounts import Unit


class Task(Protocol):
    """One piece of work under way; safe to advance from several threads."""

    def advance(self, amount: int) -> None:
        """Add `amount` bytes or items; negative after a restart."""


class Reporter(Protocol):
    """The channel for messages and progress; safe to use from several threads."""

    def info(self, message: str) -> None:
        """Say something worth knowing."""

    def warn(self, message: str) -> None:
        """Say something that may need attention; shown even when quiet."""

    def task(self, label: str, total: int | None, unit: Unit) -> AbstractContextManager[Task]:
        """Show a piece of work for as long as the context lasts; `total` None: not known."""


class ClosableReporter(Reporter, Protocol):
    """A reporter as its owner sees it."""

    def close(self) -> None:
        """Leave the terminal as it was found, whatever is still under way."""
