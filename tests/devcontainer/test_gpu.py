"""With a GPU if there is one, without if not; and no start where one is required and absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.devcontainer.workplace import Workplace, init
from tests.peers.command import wheelyard
from tests.peers.project import REPOSITORY
from wheelyard.servers.machine import read_gpus

GPU_HOST = Path(__file__).with_name("gpu-host")


@pytest.fixture
def without_gpu() -> None:
    if read_gpus().driver is not None:
        pytest.skip("this machine has a GPU")


@pytest.fixture
def gpu_host(place: Workplace) -> Workplace:
    """The same, through a docker client that answers as on a machine with GPUs."""
    shim, log = place.folder / "gpu-host", place.folder / "gpu-host.log"
    shim.write_bytes(GPU_HOST.read_bytes())
    shim.chmod(0o755)
    log.touch()
    log.chmod(0o666)
    return place.with_options("--docker-path", str(shim), GPU_HOST_LOG=str(log))


def asked(place: Workplace) -> list[str]:
    """What the engine was asked to run."""
    lines = (place.folder / "gpu-host.log").read_text().splitlines()
    return [line for line in lines if line.startswith("run ")]


def test_a_gpu_is_asked_for_where_there_is_one(gpu_host: Workplace) -> None:
    init(gpu_host)
    gpu_host.up()
    (line,) = asked(gpu_host)
    assert "--gpus all" in line
    assert "--shm-size=8g" in line


def test_the_image_alone_asks_for_none(gpu_host: Workplace) -> None:
    """A label cannot; that is why there is a configuration at all."""
    init(gpu_host)
    gpu_host.write({"image": gpu_host.read()["image"]})
    gpu_host.up()
    (line,) = asked(gpu_host)
    assert "--gpus" not in line


def test_without_one_the_container_starts_all_the_same(place: Workplace, without_gpu: None) -> None:
    init(place)
    place.up()
    program = "import torch; print(torch.cuda.is_available())"
    assert place.output("python", "-c", program) == "False"


def test_one_that_requires_a_gpu_does_not_start_without(
    place: Workplace, without_gpu: None
) -> None:
    init(place, "--require-gpu")
    done = place.try_up()
    assert done.returncode != 0
    assert "could not select device driver" in done.stdout + done.stderr


def test_where_a_gpu_is_required_and_absent_the_other_variant_is_named(
    place: Workplace, without_gpu: None
) -> None:
    command = ["devcontainer", "prepare", "pytorch-gpu", "--project", str(REPOSITORY)]
    done = wheelyard(command, place.folder, place.variables)
    assert done.returncode == 17
    assert "use 'pytorch', which takes a GPU where there is one" in done.stderr
