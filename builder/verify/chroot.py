"""Running a program in an unpacked image, in namespaces of its own: no mount outlives it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from builder.system import confine


def enter_command(root: Path, user: str, groups: str, argv: Sequence[str]) -> list[str]:
    """Argument list that runs `argv` in `root`, as `builder.system.confine` does; only for root.

    `user` is "UID:GID", `groups` further group ids joined by commas. The first of `argv` is a path.
    """
    uid, _, gid = user.partition(":")
    job = {
        "root": str(root),
        "uid": int(uid),
        "gid": int(gid),
        "groups": [int(group) for group in groups.split(",")],
        "machine": True,
        "argv": list(argv),
        "env": {},
    }
    return [sys.executable, "-I", "-S", str(Path(confine.__file__)), json.dumps(job)]
