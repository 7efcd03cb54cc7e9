"""What every command is given besides its own arguments."""

from __future__ import annotations

from dataclasses import dataclass

from wheelyard.console.tasks import Reporter
from wheelyard.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """Settings and the channel for progress, made once per run."""

    settings: Settings
    reporter: Reporter

    def mention_packaged(self) -> None:
        """Say so if the images are those that wheelyard was installed with."""
        if self.settings.packaged:
            self.reporter.info(
                "no matrix.yaml here or above: these are the images that wheelyard was installed "
                "with (--project FOLDER names others)"
            )
