"""What this installation is: its version, and the commit it was made from."""

from __future__ import annotations

import os
from pathlib import Path

import wheelyard

_PACKAGE = Path(__file__).parents[1]
_WRITTEN = _PACKAGE / "data" / "revision.txt"  # by setup.py, in a wheel and an sdist
_SECONDS = 5.0  # for git, on a slow disk


def version_line() -> str:
    """Return the version, and the commit where one is known."""
    commit, _, changed = (revision() or "").partition("-")
    known = "-".join(filter(None, (commit[:12], changed)))
    return f"{wheelyard.__version__} (revision {known})" if known else wheelyard.__version__


def revision() -> str | None:
    """Return the commit as `git describe` does; None where nothing says it. Never fails."""
    try:
        return _WRITTEN.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return _described(_PACKAGE.parents[1])


def _described(checkout: Path) -> str | None:
    """Ask git about a checkout; an environment inside another project's checkout is not one."""
    from wheelyard.errors import WheelyardError
    from wheelyard.system.subprocesses import run

    if not (checkout / ".git").exists() or not (checkout / "builder").is_dir():
        return None
    words = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    env = {name: x for name, x in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = run(("git", "-C", str(checkout), *words), error=None, env=env, timeout=_SECONDS)
    except (WheelyardError, OSError, ValueError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
