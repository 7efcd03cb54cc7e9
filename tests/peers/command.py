"""The real command as a process, with nothing of this machine's settings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.peers.project import REPOSITORY

TIMEOUT = 600


def environment(home: Path, **extra: str) -> dict[str, str]:
    """This process's environment without Wheelyard's settings, proxies and user configuration."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WHEELYARD_", "XDG_")) and not name.lower().endswith("_proxy")
    }
    return {**kept, "HOME": str(home), "PYTHONPATH": str(REPOSITORY / "builder"), **extra}


def argv(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "wheelyard", *map(str, arguments)]


def wheelyard(
    arguments: Sequence[str | Path],
    home: Path,
    env: Mapping[str, str] | None = None,
    umask: int = -1,
    timeout: float = TIMEOUT,
) -> subprocess.CompletedProcess[str]:
    """Run to the end; `home` holds no configuration unless the test put one there."""
    return subprocess.run(
        argv(*arguments),
        check=False,
        capture_output=True,
        text=True,
        env=environment(home, **(env or {})),
        cwd=home,
        umask=umask,
        timeout=timeout,
    )
