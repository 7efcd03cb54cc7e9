"""Other people's tools, and surroundings as they are at other people's sites."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tiny import Tiny, make_tiny

from tests.built import need_dist, need_runtime
from tests.engines import trixie
from tests.engines.daemons import client_environment, own_engine, temporary_folder
from tests.engines.podman import Storage
from tests.image.layout import BuiltImage, read_built
from tests.needs import missing, need_to_be_root, need_tools
from tests.peers import containerregistry
from tests.peers.island import Island, can_isolate, island
from tests.peers.project import REPOSITORY
from tests.peers.registries import registry
from tests.peers.site import Site, as_options, assert_clean, assert_through, open_site
from wheelyard.images.build.build import build_images
from wheelyard.images.build.results import Built
from wheelyard.settings import load_settings
from wheelyard.system.tools import find_tool

if TYPE_CHECKING:
    from docker import DockerClient


@pytest.fixture(scope="session")
def need() -> Callable[..., None]:
    """Call with the names of the tools that a test uses."""
    return need_tools


@pytest.fixture(scope="module")
def registry_tools(need: Callable[..., None]) -> None:
    """A registry, and what asks it as a stranger."""
    need("docker-registry", "skopeo")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A project of two small images, and a cache that has only their bases."""
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def built_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with such a project and its layout, built once in ten seconds and never changed."""
    folder = tmp_path_factory.mktemp("built-tiny")
    made = make_tiny(folder)
    results = build_images(made.plan.cells, made.plan, folder / "dist", made.context)
    assert all(isinstance(result, Built) for result in results), results
    return folder


@pytest.fixture(scope="module")
def tiny_dist(tiny: Tiny, built_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of `tiny`: two small images, of which one extends the other.

    It and the cache are copies, not links: tests damage theirs.
    """
    cache = tiny.context.settings.cache_dir
    shutil.copytree(built_tiny / "cache", cache, symlinks=True, dirs_exist_ok=True)
    dist = tmp_path_factory.mktemp("tiny-out") / "dist"
    return shutil.copytree(built_tiny / "dist", dist)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Debian's registry, empty and open to all."""
    with registry(tmp_path) as found:
        yield found


@pytest.fixture(scope="session")
def registry_program(need: Callable[..., None]) -> Path:
    """A registry that has the referrers API."""
    need("mmdebstrap", "apt-get", "gpgv", "dpkg-deb")
    return containerregistry.registry_program(load_settings({"project": str(REPOSITORY)}))


@pytest.fixture
def with_referrers(registry_program: Path) -> Iterator[str]:
    """It, empty."""
    with containerregistry.referrers_registry(registry_program) as found:
        yield found


@pytest.fixture(scope="session")
def need_root() -> None:
    need_to_be_root()


@pytest.fixture
def scratch(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder for gigabytes, removed at once."""
    with temporary_folder(request.config.getoption("--scratch")) as folder:
        yield folder


@pytest.fixture
def engine(
    need: Callable[..., None], need_root: None, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DockerClient]:
    """An engine of our own, which DOCKER_HOST names."""
    need("dockerd", "docker")
    with own_engine(scratch) as client:
        monkeypatch.setenv("DOCKER_HOST", client_environment(scratch)["DOCKER_HOST"])
        for name in list(os.environ):
            if name.lower().endswith("_proxy"):
                monkeypatch.delenv(name)
        yield client


@pytest.fixture
def podman(
    need: Callable[..., None], need_root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Storage]:
    """A podman with storage of its own, which is the one on PATH."""
    need("podman", "unshare", "setpriv")
    with temporary_folder() as folder, temporary_folder() as state:
        storage = Storage(folder, state)
        command = storage.podman_command(str(find_tool("podman")))
        (tmp_path / "bin").mkdir()
        script = tmp_path / "bin/podman"
        script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
        yield storage


@pytest.fixture(scope="session")
def trixie_tools(need: Callable[..., None], need_root: None) -> Path:
    """A root file system with the tools of Debian trixie that signatures and deployments need."""
    need("mmdebstrap", "apt-get")
    return trixie.trixie_root(load_settings({"project": str(REPOSITORY)}), trixie.TOOLS)


@pytest.fixture
def at_nobodys_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No login and no proxy of this machine."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("DOCKER_CONFIG", "XDG_RUNTIME_DIR"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def dist(request: pytest.FixtureRequest) -> Path:
    """The image layout under test."""
    return need_dist(request.config)


@pytest.fixture(scope="session")
def images(dist: Path) -> tuple[BuiltImage, ...]:
    return read_built(dist)


@pytest.fixture(scope="session")
def runtime_image(dist: Path) -> BuiltImage:
    """PyTorch 2.3.1 for running, or the first image for running that there is."""
    return need_runtime(dist)


@pytest.fixture(scope="session")
def lonely() -> Iterator[Island]:
    """A network with nothing but loopback."""
    if not can_isolate():
        missing("a network namespace of our own needs root")
    with island() as place:
        yield place


@pytest.fixture(scope="session")
def site(
    tmp_path_factory: pytest.TempPathFactory, lonely: Island, need: Callable[..., None]
) -> Iterator[Site]:
    """A company with a mirror and a project of one small image."""
    need("mmdebstrap", "apt-get", "gpgv", "dpkg-deb")
    folder = tmp_path_factory.mktemp("site")
    with open_site(folder, lonely) as made:
        yield made
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def first(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Cache and layout of a first build there, with the mirror in options."""
    folder = tmp_path_factory.mktemp("first")
    asked = len(site.mirror.requests)
    built = site.build(folder, *as_options(site.settings))
    assert built.returncode == 0, built.stderr
    assert_through(site, asked)
    assert_clean(site, built)
    yield folder
    shutil.rmtree(folder)
