"""The program that rendered Dockerfiles install wheels with: pinned by hash, in no image.

pip, which every base has, fetches one file after the other and unpacks on one core. uv does both in
parallel, so each RUN brings uv in and removes it again.
"""

from __future__ import annotations

import json
from importlib.resources import files

from wheelyard.model import LockedWheel

DATA = "data/installer.json"


def load_installer(architecture: str) -> LockedWheel:
    """Return the wheel of uv that Dockerfiles use."""
    known = json.loads(files("wheelyard").joinpath(DATA).read_text(encoding="utf-8"))
    return LockedWheel(**known[architecture])
