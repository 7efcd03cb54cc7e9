"""Every story in every selected image, in every engine of this machine, as everybody it is for."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from itertools import product
from pathlib import Path

import pytest

from tests.image.box import BACKENDS
from tests.image.conftest import chosen_images, engine
from tests.image.layout import BuiltImage
from tests.needs import missing, need_to_be_root, need_tools
from tests.use import report
from tests.use.places import Place, in_chroot, in_docker, in_podman
from tests.use.played import STORIES, Story, obstacle
from tests.use.users import USERS, User

__all__ = ["engine"]

ENTRIES = pytest.StashKey[dict[tuple[str, str], report.Entry]]()
TOOLS = {
    "docker": ("dockerd", "docker", "unshare", "setpriv"),
    "podman": ("podman", "runc", "skopeo", "newuidmap", "unshare", "setpriv"),
    "chroot": (),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    said = "write what was played into this JSON file, and a page beside it"
    parser.addoption("--record", type=Path, metavar="FILE", help=said)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "small: of the few that .ci/run plays")
    config.stash[ENTRIES] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Play what can be played; the record says of the rest why it cannot."""
    images = chosen_images(metafunc.config)
    backends = metafunc.config.getoption("--backend") or BACKENDS
    played = []
    for image, backend, user, story in product(images, backends, USERS.values(), STORIES.values()):
        if obstacle(story, image, backend, user) is None:
            marks = [pytest.mark.small] if is_small(image, backend, user, story) else []
            name = f"{image.id}/{backend}-{user.name}-{story.name}"
            played.append(pytest.param((image, backend), user, story, id=name, marks=marks))
    if not played:
        played = [pytest.param(None, None, None, id="none")]
    metafunc.parametrize("place, user, story", played, indirect=["place"], scope="session")


def is_small(image: BuiltImage, backend: str, user: User, story: Story) -> bool:
    """True for what .ci/run plays: in containers of the image that has all, the other by chroot."""
    if backend == "chroot":
        return image.flavour == "runtime" and user.name == "dev" and "dev" in story.small
    return backend == "docker" and image.flavour == "devel" and user.name in story.small


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Play an image in an engine to the end: pytest would bring equal users together."""
    items.sort(key=place_of)


def place_of(item: pytest.Item) -> tuple[str, str]:
    """The image and engine of a story."""
    callspec = getattr(item, "callspec", None)
    found = callspec.params["place"] if callspec else None
    return (found[0].id, found[1]) if found else ("", "")


@pytest.fixture(scope="session")
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """One image in one engine, alone there and gone afterwards."""
    if request.param is None:
        missing("no built image; run `make build` first")
    image, backend = request.param
    parent = request.config.getoption("--unpack-dir")
    need_to_be_root()
    need_tools(*TOOLS[backend])
    opened: AbstractContextManager[Place]
    if backend == "docker":
        opened = in_docker(image, request.getfixturevalue("engine"), parent)
    else:
        opened = in_podman(image, parent) if backend == "podman" else in_chroot(image, parent)
    with opened as found:
        request.config.stash[ENTRIES][image.id, backend] = begun(image, backend, found.version)
        yield found


def begun(image: BuiltImage, backend: str, version: str) -> report.Entry:
    """A record with what is not for this image in this engine."""
    runs = [
        report.run(user.name, story.name, report.LEFT_OUT, reason=reason)
        for user, story in product(USERS.values(), STORIES.values())
        if (reason := obstacle(story, image, backend, user)) is not None
    ]
    return report.entry(image.id, image.digest, backend, version, runs)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note how a story ended."""
    made = yield
    found = getattr(item, "callspec", None)
    if made.when == "call" and found is not None:
        (image, backend), user = found.params["place"], found.params["user"]
        story: Story = found.params["story"]
        outcome = report.PASSED if made.passed else report.FAILED
        reason = "" if call.excinfo is None else str(call.excinfo.value)[-4000:]
        assert isinstance(user, User)
        noted = report.run(user.name, story.name, outcome, call.duration, reason)
        entries = item.config.stash[ENTRIES]
        entries[image.id, backend]["runs"].append(noted)
        if file := item.config.getoption("--record"):
            report.write(file, entries.values())  # also if the rest is never played
    return made
