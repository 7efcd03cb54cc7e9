"""What every command is given besides its own arguments."""

from __future__ import annotations

from dataclasses import dataclass, field

from wheelyard.console.tasks import Reporter
from wheelyard.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """Settings and the channel for progress, made once per run."""

    settings: Settings
    reporter: Reporter
    _said: set[str] = field(default_factory=set, repr=False, compare=False)

    def mention_packaged(self) -> None:
        """Say, once, if the images are those that wheelyard was installed with."""
        message = (
            "no matrix.yaml here or above: these are the images that wheelyard was installed with "
            "(--project FOLDER names others)"
        )
        if self.settings.packaged and message not in self._said:
            self._said.add(message)
            self.reporter.info(message)
