"""Make environments of one's own: an empty one, and one that sees what the image has."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

FRAMEWORK = next(name for name in ("torch", "tensorflow") if find_spec(name))


def make(folder: Path, *options: str) -> Path:
    """The Python of a new environment."""
    subprocess.run([sys.executable, "-m", "venv", *options, folder], check=True)
    return folder / "bin" / "python"


def sees(python: Path, module: str) -> bool:
    find = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", find], check=False).returncode == 0


with tempfile.TemporaryDirectory(dir=".") as name:
    folder = Path(name).absolute()
    empty = make(folder / "empty")
    subprocess.run([empty, "-m", "pip", "--version"], check=True)
    assert not sees(empty, FRAMEWORK)
    above = make(folder / "above", "--system-site-packages")
    assert sees(above, FRAMEWORK), f"an environment on top of the image's does not see {FRAMEWORK}"
    print("both environments work")
