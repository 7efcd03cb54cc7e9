"""The image suites: every test runs for every built image, in every way this machine can run it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engines.daemons import can_start
from tests.image.box import Box, chroot_box, docker_box, podman_box, possible_backends
from tests.image.engine import running_engine
from tests.image.layout import BuiltImage, matches, read_built, read_pins
from tests.needs import missing
from wheelyard.console.progress import QuietReporter

if TYPE_CHECKING:
    from docker import DockerClient

PROJECT = Path(__file__).parents[2]
CHOSEN = pytest.StashKey[tuple[BuiltImage, ...]]()
PLACES = pytest.StashKey[list["Place"]]()
Place = tuple[BuiltImage, str]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "flavour(name): only images of this flavour")
    config.addinivalue_line("markers", "framework(name): only images that hold this framework")
    config.addinivalue_line("markers", "cuda(there): only images with CUDA, or only those without")
    config.stash[CHOSEN] = chosen_images(config)
    backends = possible_backends() if config.stash[CHOSEN] else ()
    wanted = config.getoption("--backend")
    config.stash[PLACES] = [
        (image, backend)
        for image in config.stash[CHOSEN]
        for backend in backends
        if not wanted or backend in wanted
    ]


def chosen_images(config: pytest.Config) -> tuple[BuiltImage, ...]:
    """The images the options select; a given folder or selector that fits none is an error."""
    given = config.getoption("--layout") or os.environ.get("WHEELYARD_DIST")
    dist = Path(given or PROJECT / "dist").absolute()
    built = read_built(dist)
    if given and not built:
        raise pytest.UsageError(f"{dist}/build.json lists no image; run `make build` first")
    selector = config.getoption("--images")
    images = tuple(image for image in built if matches(image, selector))
    if built and not images:
        listing = "\n  ".join(image.id for image in built)
        raise pytest.UsageError(f"--images {selector} selects none of\n  {listing}")
    return images


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    config, node = metafunc.config, metafunc.definition
    if "box" in metafunc.fixturenames:
        places = [place for place in config.stash[PLACES] if fits(place[0], node)]
        names = [f"{image.id}/{backend}" for image, backend in places]
        reason = "no selected image of this kind, or neither a Docker Engine nor root to run it"
        parametrize(metafunc, "box", places, names, reason)
    elif "image" in metafunc.fixturenames:
        images = [image for image in config.stash[CHOSEN] if fits(image, node)]
        names = [image.id for image in images]
        parametrize(
            metafunc, "image", images, names, "no built image of this kind; run `make build` first"
        )


def parametrize(
    metafunc: pytest.Metafunc, name: str, values: Sequence[object], ids: list[str], reason: str
) -> None:
    if not values:
        values, ids = [pytest.param(None, marks=pytest.mark.skip(reason=reason))], ["none"]
    metafunc.parametrize(name, values, indirect=True, ids=ids, scope="session")


def fits(image: BuiltImage, node: pytest.Item) -> bool:
    flavours = [mark.args[0] for mark in node.iter_markers("flavour")]
    frameworks = [mark.args[0] for mark in node.iter_markers("framework")]
    cuda = [mark.args[0] for mark in node.iter_markers("cuda")]
    return (
        all(name == image.flavour for name in flavours)
        and all(name in image.cell["framework"].split("+") for name in frameworks)
        and all(there is image.has_cuda for there in cuda)
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """An image is unpacked and started once: its tests run one after the other."""
    items.sort(key=lambda item: place_of(config, item))


def place_of(config: pytest.Config, item: pytest.Item) -> int:
    """Position of the box an item runs in; -1 for an item that needs none."""
    callspec = getattr(item, "callspec", None)
    place = callspec.params.get("box") if callspec else None
    return config.stash[PLACES].index(place) if place else -1


@pytest.fixture(scope="session")
def layout(request: pytest.FixtureRequest) -> Path:
    """The folder of the image layout under test."""
    images = request.config.stash[CHOSEN]
    if not images:
        pytest.skip("no built image; run `make build` first")
    return images[0].dist


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest) -> BuiltImage:
    """One built image, as its manifest and config describe it."""
    built: BuiltImage = request.param
    return built


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> Iterator[DockerClient]:
    """The Docker Engine of this machine, or one that lives as long as the test session."""
    if "docker" not in possible_backends() and not can_start():
        missing("no Docker Engine answers, and none can be started here (root and dockerd)")
    with running_engine(request.config.getoption("--unpack-dir")) as client:
        yield client


@pytest.fixture(scope="session")
def box(request: pytest.FixtureRequest) -> Iterator[Box]:
    """One built image to run commands in."""
    image, backend = request.param
    if backend == "docker":
        client = request.getfixturevalue("engine")
        with docker_box(image, client, QuietReporter(None)) as found:
            yield found
    else:
        make = podman_box if backend == "podman" else chroot_box
        with make(image, request.config.getoption("--unpack-dir")) as found:
            yield found


@pytest.fixture(scope="session")
def pins(box: Box) -> dict[str, str]:
    """Version by distribution name, as the image's lock has it."""
    return read_pins(PROJECT / "images" / box.image.id / "requirements.lock")
