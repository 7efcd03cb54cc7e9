"""Running programs in an unpacked image, each in namespaces of its own: no mount outlives it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.benchmark.measure import NotMeasuredError
from wheelyard.verify.places import enter_command


def require_chroot() -> None:
    """NotMeasuredError where images cannot be entered."""
    if os.geteuid() != 0:
        raise NotMeasuredError("only root can enter an unpacked image; run as root")


def run_inside(
    root: Path, argv: Sequence[str], environment: Mapping[str, str], *, user: int, group: int
) -> str:
    """What `argv` prints; NotMeasuredError with the end of its log when it fails."""
    assignments = [f"{name}={value}" for name, value in environment.items()]
    shell = ["/usr/bin/env", "-i", *assignments, *argv]
    command = enter_command(root, f"{user}:{user}", str(group), shell)
    result = subprocess.run(command, capture_output=True, text=True, check=False, umask=0o022)
    if result.returncode:
        tail = "\n".join(result.stderr.splitlines()[-15:])
        raise NotMeasuredError(f"{' '.join(argv[:4])} in {root} failed:\n{tail}")
    return result.stdout
