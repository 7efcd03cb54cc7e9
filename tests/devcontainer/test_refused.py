"""What is said where a dev container cannot be, or cannot work."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.devcontainer.workplace import Workplace, init
from tests.peers.command import argv, environment, wheelyard
from tests.peers.project import REPOSITORY
from wheelyard.planning.plan import load_plan
from wheelyard.rendering.devcontainers import find_variant

IMAGE = "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11-devel"
ABSENT = "pytorch:2.3.1-absent-devel"


def prepare(place: Workplace, name: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["devcontainer", "prepare", name, "--project", str(REPOSITORY)]
    return wheelyard(command, place.folder, {**place.variables, **variables})


def test_no_engine(place: Workplace) -> None:
    done = prepare(place, "pytorch", DOCKER_HOST=f"unix://{place.folder}/none.sock")
    assert done.returncode == 12
    assert "is not running: start it" in done.stderr


def test_an_image_that_was_not_built_yet_is_named_with_the_command(place: Workplace) -> None:
    init(place)
    config = place.read()
    before = config["initializeCommand"]
    before["image"] = before["image"].replace(IMAGE, ABSENT)
    place.write(config | {"image": ABSENT})
    done = place.try_up()
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert f"{ABSENT} is not in the Docker Engine; make it in a clone of Wheelyard" in said
    assert "make build MATRIX=pytorch-2.3.1-" in said
    assert "docker pull" not in said  # it is said at once, and no registry is asked


def test_a_workspace_of_somebody_else(place: Workplace) -> None:
    init(place)
    shutil.chown(place.project, 0, 0)
    done = place.try_up()
    assert done.returncode == 0
    said = done.stdout + done.stderr
    assert "/workspaces/project is not writable for dev (4242): it belongs to 0." in said
    assert "Open it as its owner, or give it to 4242." in said


def test_a_workspace_that_is_read_only(place: Workplace) -> None:
    init(place)
    mount = "source=${localWorkspaceFolder},target=/workspaces/project,type=bind,readonly"
    where = {"workspaceMount": mount, "workspaceFolder": "/workspaces/project"}
    place.write(place.read() | where)
    done = place.try_up()
    assert done.returncode == 0
    said = done.stdout + done.stderr
    assert "/workspaces/project is not writable for dev (4242): it is read-only" in said
    assert "work in a copy" in said


def test_a_project_that_may_not_be_written(place: Workplace) -> None:
    """Before there is a container: `init` into a folder of a read-only file system."""
    folder = place.folder / "mounted"
    folder.mkdir()
    line = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@"'
    command = ["devcontainer", "init", "--output", str(folder), "--project", str(REPOSITORY)]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-e", "-c", line, "mounted", folder, *argv(*command)],
        capture_output=True, text=True, check=False, env=environment(place.folder),
    )  # fmt: skip
    assert done.returncode == 10
    file = folder / ".devcontainer/devcontainer.json"
    assert f"{file}: Read-only file system; make it writable for this user" in done.stderr


@pytest.fixture
def known(place: Workplace) -> Iterator[str]:
    """An image under the name that the configuration `pytorch` wants, so that none is made."""
    name = find_variant(load_plan(REPOSITORY).cells, "pytorch").cell.tags[0]
    assert place.engine.client.images.get(IMAGE).tag(*name.rsplit(":", 1))
    yield name
    place.engine.client.images.remove(name)


def test_an_image_that_is_there_is_not_made_again(place: Workplace, known: str) -> None:
    done = prepare(place, "pytorch")
    assert (done.returncode, done.stdout) == (0, f"{known} is in the engine\n")
    assert "left over" not in done.stderr


def test_a_container_that_is_left_over_from_a_failed_start(place: Workplace, known: str) -> None:
    """It would be started again as it is, whatever was changed in the configuration."""
    label = {"devcontainer.local_folder": str(REPOSITORY)}
    left = place.engine.client.containers.create(known, "true", labels=label)
    try:
        done = prepare(place, "pytorch")
    finally:
        left.remove(v=True)
    assert f"docker rm -v {left.short_id}" in done.stderr


def test_an_editor_shows_what_a_failed_start_left(place: Workplace) -> None:
    """`up` itself starts it again, where this test's other ones remove it first."""
    init(place)
    place.write(place.read() | {"runArgs": ["--gpus=all"]})
    assert place.try_up().returncode != 0
    again = place.call("up")
    assert again.returncode != 0
    (left,) = place.engine.client.containers.list(all=True, filters={"status": "created"})
    advice = f"would be started again: if that fails too, remove it: docker rm -v {left.short_id}"
    assert advice in again.stdout + again.stderr
