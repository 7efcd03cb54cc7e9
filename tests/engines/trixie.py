"""Tools of Debian trixie, Docker 26.1 first of all: root file systems made once and kept."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.engines.daemons import Kind
from wheelyard.console.progress import QuietReporter
from wheelyard.errors import BaseImageError
from wheelyard.fetching.trust import trust_file
from wheelyard.lock.sources import Source, debian_sources
from wheelyard.settings import Settings
from wheelyard.system.filelock import locked
from wheelyard.system.subprocesses import run
from wheelyard.system.tools import require_tool

SUITE = "trixie"
# buildx is a package of its own; without iptables dockerd does not start, even told not to use it.
# pigz, with which engines inflate, is recommended by Docker's packages (docker-ce-packaging#77),
# not by Debian's.
PACKAGES = ("ca-certificates", "docker-buildx", "docker-cli", "docker.io", "iptables", "pigz")
# What signs, what copies, and what reads deployments.
TOOLS = ("ca-certificates", "cosign", "docker-compose", "oras", "podman", "skopeo")
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
BUILDX = Path("usr/libexec/docker/cli-plugins/docker-buildx")
CONTAINERD_STORE = {"features": {"containerd-snapshotter": True}}


def classic(settings: Settings) -> Kind:
    """The engine with the image store that Docker has had since its beginning."""
    return Kind("docker-26.1", trixie_root(settings))


def containerd(settings: Settings) -> Kind:
    """The engine with containerd's image store."""
    return Kind("docker-26.1-containerd", trixie_root(settings), CONTAINERD_STORE)


def bootstrap_command(
    tool: str, root: Path, packages: Sequence[str], sources: list[Source], trust: Path | None
) -> list[str]:
    """Argument list for mmdebstrap."""
    return [
        tool,
        "--mode=root",
        "--variant=essential",
        f"--include={','.join(packages)}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
        *([] if trust is None else [f'--aptopt=Acquire::https::CAInfo "{trust}"']),
        SUITE,
        str(root),
        *(f"deb {x.uri} {x.suite} {' '.join(x.components)}" for x in sources),
    ]


def trixie_root(settings: Settings, packages: Sequence[str] = PACKAGES) -> Path:
    """The root file system with `packages` in the cache, made if need be, from settings' mirrors.

    The name holds what it was asked for. Raises ToolMissingError and BaseImageError.
    """
    asked = "\n".join((SUITE, *packages, *LEFT_OUT))
    name = f"{SUITE}-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"
    folder = settings.cache_dir / "engines"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f"{name}.lock"):
        if not (folder / name).exists():
            _make(folder / name, packages, settings)
    return folder / name


def started_from(root: Path, program: str) -> list[str]:
    """The command that starts a program of `root` with its own libraries, on this machine's files.

    It takes the loader's path for its own, so that what starts itself again cannot be used so.
    """
    libraries = (root / place / "x86_64-linux-gnu" for place in ("lib", "usr/lib"))
    loader = root / "lib64/ld-linux-x86-64.so.2"
    return [str(loader), "--library-path", ":".join(map(str, libraries)), str(root / program)]


def client_configuration(folder: Path, root: Path) -> Path:
    """A folder for DOCKER_CONFIG that knows buildx and nothing of this user's."""
    plugins = folder / "client" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / BUILDX.name).symlink_to(root / BUILDX)
    return plugins.parent


def _make(root: Path, packages: Sequence[str], settings: Settings) -> None:
    reporter = QuietReporter(None)
    tool = require_tool("mmdebstrap", reporter)
    sources = list(debian_sources(SUITE, settings, reporter))
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
        made = Path(scratch, "root")
        command = bootstrap_command(
            tool, made, packages, sources, trust_file(settings, Path(scratch))
        )
        run(command, error=BaseImageError, what=f"making {SUITE} for {packages[-1]}")
        shutil.rmtree(made / "var/lib/apt/lists", ignore_errors=True)
        (made / "etc/resolv.conf").touch()
        made.rename(root)
