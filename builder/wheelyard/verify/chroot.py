"""Running a program in an unpacked image, in namespaces of its own: no mount outlives it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wheelyard.system.confine import confined


def enter_command(root: Path, user: str, groups: str, argv: Sequence[str]) -> list[str]:
    """Argument list that runs `argv` in `root`, as on a machine of its own; only for root.

    `user` is "UID:GID", `groups` further group ids joined by commas. The first of `argv` is a path.
    """
    uid, _, gid = user.partition(":")
    others = [int(group) for group in groups.split(",")]
    return confined(root, argv, ids=(int(uid), int(gid)), groups=others, machine=True)
