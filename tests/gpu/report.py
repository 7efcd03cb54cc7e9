"""selfcheck's report from inside an image, group by group."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.image.box import Box


@dataclass
class Report:
    """Checks by name, asked for once."""

    box: Box
    require_gpu: bool
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def frameworks(self) -> list[str]:
        """What the image trains with."""
        return self.box.image.cell["framework"].split("+")

    def group(self, name: str) -> dict[str, Any]:
        """A group's checks by name."""
        if name not in self.groups:
            option = "--require-gpu " if self.require_gpu and name == "gpu" else ""
            result = self.box.dev.run(f"selfcheck --json {option}{name}")
            assert result.rc in (0, 1), result.stderr[-2000:]
            checks = json.loads(result.stdout)["checks"]
            self.groups[name] = {check["name"]: check for check in checks}
        return self.groups[name]

    def require(self, name: str) -> dict[str, Any]:
        """A check that must have passed; one that selfcheck skipped is skipped here too."""
        checks = self.group(name.partition(".")[0])
        assert name in checks, f"{name} is not among {', '.join(checks)}"
        check: dict[str, Any] = checks[name]
        if check["status"] == "skip":
            pytest.skip(check["reason"])
        assert check["status"] == "pass", f"{check['reason']}\n{check['seen']}"
        return check
