"""Runs a program in an unpacked image, in separate namespaces: no mount outlives it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wheelyard.system.confine import confined


def enter_command(root: Path, user: str, groups: str, argv: Sequence[str]) -> list[str]:
    """Return the argument list that runs `argv` in `root`, isolated; only for root.

    `user` is "UID:GID", `groups` further group ids joined by commas. The first of `argv` is a path.
    """
    uid, _, gid = user.partition(":")
    others = [int(group) for group in groups.split(",")]
    return confined(root, argv, ids=(int(uid), int(gid)), groups=others, machine=True)
