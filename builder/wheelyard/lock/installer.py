"""`python -m wheelyard.lock.installer`: update the pin of uv in the rendered Dockerfiles.

Uses the network. The version is that of this environment's uv, which `make requirements` pins.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from wheelyard.architecture import ARCHITECTURES
from wheelyard.contract.installer import DATA
from wheelyard.lock.pylock import first_wheel, locked_wheel
from wheelyard.lock.uv import ResolutionRequest, compile_requirements
from wheelyard.model import LockedWheel
from wheelyard.settings import Settings, load_settings
from wheelyard.system.textfiles import write_text

# The oldest platform of all bases: the file then runs on all of them.
_PLATFORM = "manylinux_2_28"
_PYTHON = "3.11"


def _pin_installer(settings: Settings, machine: str) -> LockedWheel:
    """Ask the index for this version of uv; FetchError or LockError if it has no wheel."""
    asked, platform = (f"uv=={version('uv')}",), f"{machine}-{_PLATFORM}"
    request = ResolutionRequest(asked, _PYTHON, platform, dependencies=False)
    (found,) = compile_requirements(request, "the installer of the Dockerfiles", settings)
    return locked_wheel(found, first_wheel(found).size or 0)


if __name__ == "__main__":
    pinned = {
        name: asdict(_pin_installer(load_settings({}), architecture.machine))
        for name, architecture in ARCHITECTURES.items()
    }
    text = json.dumps(pinned, indent=1)
    write_text(Path(__file__).parents[1] / DATA, f"{text}\n")
