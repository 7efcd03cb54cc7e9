"""Running a program in an unpacked image, in namespaces of its own: no mount outlives it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

# `lo` is down in a new network namespace, and processes that train together meet there.
_ENTER = (
    "ip link set lo up 2>/dev/null; "
    'mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" '
    '&& mount -t tmpfs tmpfs "$1/dev/shm" && root=$1 user=$2 groups=$3 && shift 3 '
    '&& exec chroot --userspec="$user" --groups="$groups" "$root" "$@"'
)


def enter_command(root: Path, user: str, groups: str, argv: Sequence[str]) -> list[str]:
    """Argument list that runs `argv` in `root`, with /proc and /dev, without a network.

    `user` is "UID:GID", `groups` further group ids joined by commas; only root may do this.
    """
    return [
        "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child",
        "sh", "-c", _ENTER, "enter", str(root), user, groups, *argv,
    ]  # fmt: skip
