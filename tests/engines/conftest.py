"""Engines that live as long as the module that asked for them: their images are gigabytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.built import need_dist, need_runtime
from tests.engines import trixie
from tests.engines.daemons import (
    INSTALLED,
    Engine,
    Kind,
    client_environment,
    own_engine,
    temporary_folder,
)
from tests.engines.podman import Storage
from tests.engines.site import SmallSite, open_small_site
from tests.image.layout import BuiltImage
from tests.needs import need_to_be_root, need_tools
from tests.peers.island import HERE, Place
from wheelyard.settings import Settings, load_settings

REPOSITORY = Path(__file__).parents[2]
# Names for @pytest.mark.parametrize("engine", [...], indirect=True).
OLD, NEW, CONTAINERD = "docker-20.10", "docker-26.1", "docker-26.1-containerd"
KINDS: dict[str, Callable[[Settings], Kind]] = {
    OLD: lambda _settings: INSTALLED,
    NEW: trixie.classic,
    CONTAINERD: trixie.containerd,
}


@pytest.fixture(scope="session")
def settings() -> Settings:
    """This user's settings: the cache that keeps Debian trixie, and its mirrors."""
    return load_settings({"project": str(REPOSITORY)})


@pytest.fixture(scope="session")
def runtime_image(request: pytest.FixtureRequest) -> BuiltImage:
    """PyTorch 2.3.1 for running, or the first image for running that there is."""
    return need_runtime(need_dist(request.config))


@pytest.fixture(scope="module")
def scratch(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder for gigabytes, gone with the module."""
    with temporary_folder(request.config.getoption("--scratch")) as folder:
        yield folder


@pytest.fixture(scope="module")
def storage(request: pytest.FixtureRequest) -> Iterator[Storage]:
    """Yield images and containers of podman and buildah, empty at first."""
    need_to_be_root()
    need_tools("podman", "buildah", "runc", "skopeo", "unshare", "setpriv")
    given = request.config.getoption("--scratch")
    with temporary_folder(given) as folder, temporary_folder() as state:
        yield Storage(folder, state)


@pytest.fixture(scope="module")
def place() -> Place:
    """The network of engine and mirror; a module may give them one of their own."""
    return HERE


@pytest.fixture(scope="module")
def site(scratch: Path, settings: Settings, place: Place) -> Iterator[SmallSite]:
    """A mirror with a login and a private CA, and a project of small images."""
    with open_small_site(scratch, settings, place) as site:
        yield site


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest, settings: Settings, place: Place) -> Iterator[Engine]:
    """Each engine in turn, empty when it starts; one at a time is there."""
    kind = choose(request.param, settings)
    parent = request.config.getoption("--scratch")
    with temporary_folder(parent) as folder, own_engine(folder, kind, place) as client:
        config = trixie.client_configuration(folder, trixie.trixie_root(settings))
        environment = {**client_environment(folder), "DOCKER_CONFIG": str(config)}
        yield Engine(request.param, client, folder, environment)


def choose(name: str, settings: Settings) -> Kind:
    """The kind of engine of that name, if this machine can start it."""
    need_to_be_root()
    need_tools("docker", "unshare", "setpriv", "mmdebstrap", *(["dockerd"] if name == OLD else []))
    return KINDS[name](settings)
