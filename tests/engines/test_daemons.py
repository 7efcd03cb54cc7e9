"""The engines of these tests: what they are, and that nothing is left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.engines import trixie
from tests.engines.conftest import CONTAINERD, NEW, OLD, REPOSITORY
from tests.engines.daemons import Engine, temporary_folder
from tests.needs import need_to_be_root, need_tools
from wheelyard.engines.docker import uses_containerd
from wheelyard.planning.plan import load_plan
from wheelyard.planning.selector import select
from wheelyard.rendering.bakefile import native_target
from wheelyard.settings import Settings

START = """
import sys, time
from pathlib import Path
from tests.engines.daemons import Kind, own_engine
with own_engine(Path(sys.argv[1]), Kind("it", Path(sys.argv[2]))) as client:
    print(client.info()["ServerVersion"], flush=True)
    time.sleep(600)
"""


def test_an_engine_is_what_its_name_says(engine: Engine) -> None:
    version = engine.client.version()["Version"]
    if engine.name in (NEW, CONTAINERD):
        assert version.startswith("26.1.")
    assert uses_containerd(engine.client) is (engine.name == CONTAINERD)


@pytest.mark.parametrize("engine", [OLD, NEW], indirect=True)
def test_buildx_reaches_the_engine(engine: Engine) -> None:
    argv = ["docker", "buildx", "version"]
    said = subprocess.run(argv, env=engine.environment, capture_output=True, text=True, check=True)
    assert " 0.13." in said.stdout
    argv = ["docker", "buildx", "inspect", "default"]
    said = subprocess.run(argv, env=engine.environment, capture_output=True, text=True, check=True)
    assert "running" in said.stdout


@pytest.mark.parametrize(
    ("machine", "platform"),
    [(None, "linux/amd64"), ("", "linux/amd64"), ("-arm64", "linux/arm64")],
)
def test_bake_makes_the_image_for_the_machine_s_processor(
    settings: Settings, machine: str | None, platform: str
) -> None:
    """As `MACHINE` says, which buildx computes here; an engine is not asked."""
    need_tools("mmdebstrap")
    (cell,) = select(load_plan(REPOSITORY), "pytorch:devel")
    said = subprocess.run(
        [trixie.trixie_root(settings) / trixie.BUILDX, "bake", "--print", native_target(cell)],
        env={**os.environ, **({} if machine is None else {"MACHINE": machine})},
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    targets = json.loads(said.stdout)["target"]
    made = targets[native_target(cell)]
    assert made["platforms"] == [platform]
    assert made["tags"] == list(cell.tags)
    assert made["context"] == f"{cell.folder}{machine or ''}"
    end = "-arm64" if machine else ""
    base = f"target:base-trixie{end}-runtime"
    assert made["contexts"][f"wheelyard/base:trixie{end}-runtime"] == base
    assert targets[base.removeprefix("target:")]["platforms"] == [platform]


def test_nothing_is_left_of_an_engine_whose_test_run_was_killed(
    settings: Settings, request: pytest.FixtureRequest
) -> None:
    need_to_be_root()
    need_tools("unshare", "setpriv", "mmdebstrap")
    root = trixie.trixie_root(settings)
    with temporary_folder(request.config.getoption("--scratch")) as folder:
        argv = [sys.executable, "-c", START, str(folder), str(root)]
        repository = Path(__file__).parents[2]
        with subprocess.Popen(argv, cwd=repository, stdout=subprocess.PIPE, text=True) as starter:
            assert starter.stdout is not None
            assert starter.stdout.readline().startswith("26.1.")
            assert processes_that_see(folder)
            starter.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while (left := processes_that_see(folder)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left
        mounts = Path("/proc/self/mountinfo").read_text()
        assert str(folder) not in mounts
        assert str(root) not in mounts


def processes_that_see(folder: Path) -> set[int]:
    """Processes for which this folder is mounted somewhere."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if folder.name in (process / "mountinfo").read_text():
                found.add(int(process.name))
    return found
