"""What every command is given besides its own arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wheelyard.console.tasks import Reporter
    from wheelyard.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """Settings and the channel for progress, made once per run."""

    settings: Settings
    reporter: Reporter
