"""The dev container CLI from npm, at the version of cli/package-lock.json; kept in the cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from builder.settings import Settings
from builder.system.filelock import locked
from tests.needs import missing, need_tools

LOCK = Path(__file__).parent / "cli"
FILES = ("package.json", "package-lock.json", ".npmrc")
PROGRAM = Path("node_modules/@devcontainers/cli/devcontainer.js")
NODE = 20
# No package here has install scripts that are needed, so none may run.
INSTALL = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")


def install_cli(settings: Settings) -> Path:
    """The folder that holds PROGRAM; its hash is checked by npm against the lock file."""
    need_tools("node", "npm")
    said = subprocess.run(("node", "--version"), capture_output=True, text=True, check=True).stdout
    if int(said.lstrip("v").partition(".")[0]) < NODE:
        missing(f"node is {said.strip()}, the dev container CLI needs {NODE} or newer")
    content = b"".join((LOCK / name).read_bytes() for name in FILES)
    folder = settings.cache_dir / "engines"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"devcontainer-cli-{hashlib.sha256(content).hexdigest()[:12]}"
    with locked(Path(f"{kept}.lock")):
        if not kept.exists():
            _install(kept)
    return kept


def _install(kept: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{kept.name}-", dir=kept.parent) as scratch:
        made = Path(scratch, "cli")
        made.mkdir()
        for name in FILES:
            shutil.copy(LOCK / name, made)
        subprocess.run(INSTALL, cwd=made, check=True, timeout=300)
        made.rename(kept)
