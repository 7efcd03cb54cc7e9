"""Who uses an image: what engines are told about the user, and whose the mounted folder is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

OUTSIDE = 4242  # a user of the machine whom no image knows


@dataclass(frozen=True, slots=True)
class User:
    """A way to start containers as somebody."""

    name: str
    options: tuple[str, ...]  # of `docker run` and `podman run`
    folder: tuple[int, int, int]  # owner, group and mode of /workspace, as the container sees them
    engines: tuple[str, ...] = ("docker", "podman")
    chroot: str = ""  # "UID:GID,GROUP" where no engine is needed for it
    read_only: bool = False

    def fitting(self, *, loads_code: bool) -> list[str]:
        """The options; what is compiled can be loaded from /tmp only where that is asked for."""
        if not loads_code:
            return list(self.options)
        return [x.replace("--tmpfs=/tmp", "--tmpfs=/tmp:exec") for x in self.options]


READ_ONLY = ("--read-only", "--tmpfs=/tmp")
# What Kubernetes' restricted profile and OpenShift's SCCs make of a pod.
RESTRICTED = ("--cap-drop=ALL", "--security-opt=no-new-privileges")
EVERY_ENGINE = ("docker", "podman", "chroot")
USERS = {
    user.name: user
    for user in (
        User("dev", (), (1000, 1000, 0o755), EVERY_ENGINE, "1000:1000,900"),
        User("root", ("--user=0",), (0, 0, 0o755), EVERY_ENGINE, "0:0,0"),
        # docker run --user "$(id -u):$(id -g)" -v "$PWD:/workspace"
        User(
            "own uid",
            (f"--user={OUTSIDE}:{OUTSIDE}",),
            (OUTSIDE, OUTSIDE, 0o755),
            EVERY_ENGINE,
            f"{OUTSIDE}:{OUTSIDE},{OUTSIDE}",
        ),
        User("12345:12345", ("--user=12345:12345",), (0, 0, 0o777)),  # Kubernetes' emptyDir
        User("1000670000:0", ("--user=1000670000:0", *RESTRICTED), (0, 0, 0o2775), ("docker",)),
        User("read-only", READ_ONLY, (1000, 1000, 0o755), read_only=True),
        User(
            "Kubernetes",
            ("--user=12345:12345", "--group-add=2000", *READ_ONLY, *RESTRICTED),
            (0, 2000, 0o2775),  # fsGroup: 2000
            ("docker",),
            read_only=True,
        ),
        User(
            "keep-id",
            ("--userns=keep-id", f"--user={OUTSIDE}:{OUTSIDE}"),
            (OUTSIDE, OUTSIDE, 0o755),
            ("podman",),
        ),
    )
}


def hand_over(folder: Path, owner: int, group: int, mode: int) -> None:
    """Give a folder and all in it away."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner, group, follow_symlinks=False)
    folder.chmod(mode)
