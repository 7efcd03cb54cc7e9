"""The configurations of this repository, as the CLI reads them; and how soon one is open."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.devcontainer.workplace import (
    CONFIG,
    TIMEOUT,
    Workplace,
    give,
    init,
    make_workplace,
    remove_containers,
)
from tests.peers.project import REPOSITORY

SECONDS = 10  # to the first prompt, on two cores, the image being there
SEEN = sorted(REPOSITORY.glob(".devcontainer/**/devcontainer.json"))


@pytest.mark.parametrize("path", SEEN, ids=lambda path: str(path.parent.name))
def test_the_cli_reads_it(place: Workplace, path: Path) -> None:
    """From a copy: the checkout may be closed to the other user."""
    copy = place.project / path.relative_to(REPOSITORY)
    copy.parent.mkdir(parents=True)
    copy.write_bytes(path.read_bytes())
    named = [] if path == REPOSITORY / CONFIG else ["--config", str(copy)]
    said = place.call("read-configuration", *named)
    assert said.returncode == 0, said.stderr
    config = json.loads(said.stdout)["configuration"]
    assert config["remoteUser"] == "dev"
    assert config["image"].endswith("-devel")


def test_a_folder_is_open_in_seconds(
    place: Workplace, record_property: Callable[[str, object], None]
) -> None:
    init(place)
    alone = seconds(lambda: run_alone(place))
    opened = seconds(lambda: (place.up(), place.output("true")))
    record_property("open", said := f"{opened:.1f} s, {opened / alone:.1f} x `docker run`")
    print(f"a first prompt after {said} ({alone:.1f} s)")
    assert opened < SECONDS


def seconds(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def run_alone(place: Workplace) -> None:
    """A prompt without a dev container: the same image, memory and folder."""
    volume = f"{place.project}:/workspace"
    command = ["docker", "run", "--rm", "--shm-size=8g", "-v", volume, place.read()["image"]]
    environment = {**os.environ, **place.variables}
    subprocess.run([*command, "true"], check=True, env=environment, timeout=TIMEOUT)


def test_volumes_survive_a_new_container(place: Workplace) -> None:
    init(place)
    first = volumes(place)
    place.shell("echo mine > ~/.cache/probe")
    assert volumes(place) == first
    assert place.shell("cat ~/.cache/probe") == "mine"


def test_volumes_are_not_shared_with_another_folder(place: Workplace) -> None:
    init(place)
    other = make_workplace(place.folder, place.uid, place.cli, place.engine)
    other.write(place.read())
    give(other)
    mine, theirs = volumes(place), volumes(other)
    assert len(mine) == len(theirs) == 2
    assert mine.isdisjoint(theirs)
    remove_containers(other)


def volumes(place: Workplace) -> set[str]:
    """The names of the volumes of the container that this makes anew."""
    made = place.engine.client.containers.get(place.up()["containerId"])
    return {x["Name"] for x in made.attrs["Mounts"] if x["Type"] == "volume"}
