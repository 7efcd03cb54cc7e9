"""A registry with the referrers API: Debian trixie's go-containerregistry, built once and kept.

No registry in Debian has that API (docker-registry 2.8 has not), but this library has one for
tests of clients. It is in memory, has no login, and mounts blobs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.engines.trixie import SUITE
from tests.peers.registries import free_port, serving
from wheelyard.console.progress import QuietReporter
from wheelyard.errors import LockError
from wheelyard.lock.apt import Apt, isolated_apt
from wheelyard.lock.sources import debian_sources
from wheelyard.settings import Settings
from wheelyard.system.filelock import locked
from wheelyard.system.subprocesses import run

# The compiler, its standard library, and the registry, which needs no other package.
GO = "1.24"
PACKAGES = (f"golang-{GO}-go", f"golang-{GO}-src", "golang-github-google-go-containerregistry-dev")
SOURCE = Path(__file__).with_name("main.go")


def registry_program(settings: Settings) -> Path:
    """The program in the cache, built if need be: 50 MB of packages, half a minute."""
    asked = "\n".join((SUITE, *PACKAGES, SOURCE.read_text()))
    name = f"containerregistry-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"
    folder = settings.cache_dir / "engines"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f"{name}.lock"):
        if not (folder / name).exists():
            _build(folder / name, settings)
    return folder / name


@contextmanager
def referrers_registry(program: Path) -> Iterator[str]:
    """It on loopback, empty; host and port."""
    address = f"127.0.0.1:{free_port()}"
    with serving([str(program), address], address, Path(os.devnull)):
        yield address


def _build(program: Path, settings: Settings) -> None:
    reporter = QuietReporter(None)
    sources = debian_sources(SUITE, settings, reporter)
    with (
        tempfile.TemporaryDirectory(prefix=f".{program.name}-", dir=program.parent) as scratch,
        isolated_apt(sources, settings, reporter) as apt,
    ):
        _unpack(apt, Path(scratch))
        _compile(Path(scratch), Path(scratch, "registry"))
        Path(scratch, "registry").rename(program)


def _unpack(apt: Apt, folder: Path) -> None:
    """The packages' files alone: what the compiler would be installed with is not needed."""
    fetch = ["apt-get", "download", *PACKAGES]
    run(fetch, error=LockError, what="fetching Go from Debian", cwd=apt.folder, env=apt.env)
    for package in apt.folder.glob("*.deb"):
        run(["dpkg-deb", "--extract", str(package), str(folder)], error=LockError)


def _compile(folder: Path, program: Path) -> None:
    source = shutil.copy(SOURCE, folder)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GOROOT": f"{folder}/usr/lib/go-{GO}",
        "GOPATH": f"{folder}/usr/share/gocode",
        "GO111MODULE": "off",  # Debian's libraries are one GOPATH
        "CGO_ENABLED": "0",
    }
    argv = [f"{env['GOROOT']}/bin/go", "build", "-o", str(program), str(source)]
    run(argv, error=LockError, what="building a registry", env=env, cwd=folder)
