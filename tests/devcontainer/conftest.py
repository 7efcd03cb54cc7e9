"""One engine with one devel image for the whole suite: loading it is what takes time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.built import need_devel, need_dist
from tests.devcontainer.npm import NODE_COPY, find_node, install_cli
from tests.devcontainer.workplace import Workplace, init, make_workplace, remove_containers
from tests.engines.daemons import Engine, client_environment, own_engine, temporary_folder
from tests.image.layout import BuiltImage
from tests.image.loadable import loadable
from tests.needs import missing, need_to_be_root, need_tools
from tests.peers.project import REPOSITORY
from wheelyard.console.progress import QuietReporter
from wheelyard.engines.load import load
from wheelyard.settings import Settings, load_settings

ROOT, SOMEBODY = 0, 4242


@pytest.fixture(scope="session")
def settings() -> Settings:
    """This user's settings: the cache that keeps the CLI."""
    return load_settings({"project": str(REPOSITORY)})


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest) -> BuiltImage:
    """PyTorch 2.3.1 for development."""
    image = need_devel(need_dist(request.config))
    if image.cell["framework_version"] != "2.3.1":
        missing("dist holds no devel image of PyTorch 2.3.1")
    return image


@pytest.fixture(scope="session")
def scratch(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder that everybody may pass through, for gigabytes."""
    need_to_be_root()
    with temporary_folder(request.config.getoption("--scratch")) as folder:
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="session")
def cli(scratch: Path, settings: Settings) -> Path:
    """The CLI and its Node where others can read them; cache and .venv may be root's alone."""
    folder = shutil.copytree(install_cli(settings), scratch / "cli")
    shutil.copy(find_node()[0], folder / NODE_COPY)
    return folder


@pytest.fixture(scope="session")
def engine(scratch: Path, image: BuiltImage) -> Iterator[Engine]:
    """This machine's dockerd with the image, and a socket that everybody may use."""
    need_tools("docker", "dockerd", "unshare", "setpriv")
    folder = scratch / "engine"
    folder.mkdir()
    with own_engine(folder) as client:
        (folder / "docker.sock").chmod(0o666)
        blobs = image.dist / "blobs" / "sha256"
        load(client, blobs, [loadable(image)], QuietReporter(None))
        yield Engine("docker", client, folder, client_environment(folder))


@pytest.fixture(scope="session", params=[ROOT, SOMEBODY], ids=["root", "uid-4242"])
def opened(request: pytest.FixtureRequest, scratch: Path, cli: Path, engine: Engine) -> Workplace:
    """A project whose container runs, opened by root and by an ordinary user."""
    place = make_workplace(scratch, request.param, cli, engine)
    init(place)
    place.up()
    return place


@pytest.fixture
def place(
    tmp_path_factory: pytest.TempPathFactory, scratch: Path, cli: Path, engine: Engine
) -> Iterator[Workplace]:
    """A new project of an ordinary user; its containers go with the test."""
    parent = Path(scratch, tmp_path_factory.mktemp("x").name)
    parent.mkdir()
    made = make_workplace(parent, SOMEBODY, cli, engine)
    yield made
    remove_containers(made)
    shutil.rmtree(parent)
