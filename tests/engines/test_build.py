"""`wheelyard build --engine docker` and `bake`: the image, and no trace of settings in it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.engines.conftest import CONTAINERD, NEW, OLD
from tests.engines.daemons import Engine
from tests.engines.parity import differences, read_config, read_tree
from tests.engines.site import SmallSite, built

HOST = ("--network", "host")  # the engines of these tests have no other


@pytest.fixture(scope="module")
def by_docker(engine: Engine, site: SmallSite) -> Mapping[str, Any]:
    site.forget_wheels()
    return built(site.build(engine, "--engine", "docker", "--json"))


def traces(engine: Engine, site: SmallSite, image: str) -> list[bytes]:
    """What the saved image and its history hold of the machine's settings."""
    history = subprocess.run(
        ["docker", "history", "--no-trunc", image],
        env=engine.environment, capture_output=True, check=True,
    ).stdout  # fmt: skip
    words = [*site.mirror.secrets, *site.mirror.address, b"/run/wheelyard/ca.pem="]
    address = re.compile(rb"wheelhouse-[0-9]{2,5}-[0-9a-f]{16}")
    found = [word for word in words if word in history] + address.findall(history)
    with subprocess.Popen(
        ["docker", "save", image], env=engine.environment, stdout=subprocess.PIPE
    ) as saving:
        assert saving.stdout is not None
        before = b""
        while piece := saving.stdout.read(1 << 22):
            text = before + piece
            found += [word for word in words if word in text] + address.findall(text)
            before = piece[-4096:]
    assert saving.returncode == 0
    return found


class TestDocker:
    def test_the_image_is_read_back_and_tagged(
        self, by_docker: Mapping[str, Any], engine: Engine, site: SmallSite
    ) -> None:
        assert by_docker["inspected"]["pytorch"] == "2.3.1"
        assert by_docker["inspected"]["CUDA"] == "12.1"
        image = engine.client.images.get(site.cell.tags[0])
        assert image.id == by_docker["image"]
        assert set(site.cell.tags) <= set(image.tags)
        log = Path(by_docker["log"]).read_text()
        assert re.search(r"^(Step 1/|\[1/)\d+", log, re.MULTILINE)  # the classic builder, BuildKit
        assert "torch==2.3.1" in log

    def test_wheels_came_through_the_mirror_and_left_no_trace(
        self, by_docker: Mapping[str, Any], engine: Engine, site: SmallSite
    ) -> None:
        assert any(path.startswith("/files/torch-") for path, _range in site.mirror.requests)
        assert traces(engine, site, by_docker["image"]) == []
        log = Path(by_docker["log"]).read_bytes()
        assert [word for word in site.mirror.secrets if word in log] == []

    def test_nothing_changed_is_nothing_to_do(
        self, by_docker: Mapping[str, Any], engine: Engine, site: SmallSite
    ) -> None:
        site.forget_wheels()
        asked = len(site.mirror.requests)
        again = built(site.build(engine, "--engine", "docker", "--json"))
        assert again["image"] == by_docker["image"]
        assert len(site.mirror.requests) == asked
        log = Path(again["log"]).read_text()
        # The classic builder, BuildKit.
        assert "Using cache" in log or "WORKDIR /workspace CACHED" in log

    def test_it_is_the_image_that_assemble_makes(
        self, by_docker: Mapping[str, Any], engine: Engine, site: SmallSite
    ) -> None:
        compare_with_assembled(engine, site, by_docker["image"])

    def test_no_container_is_left(self, by_docker: Mapping[str, Any], engine: Engine) -> None:
        assert engine.client.containers.list(all=True) == []


def compare_with_assembled(engine: Engine, site: SmallSite, image: str) -> None:
    """Same tree, same config."""
    engine.client.images.get(image).tag("compared", "built")  # assemble takes the other tags
    result = site.build(engine, "--load", "--output", site.folder / "assembled")
    assert result.returncode == 0, result.stderr
    tag = site.cell.tags[0]
    try:
        found = differences(read_tree(engine.client, tag), read_tree(engine.client, image))
        assert found == [], "\n".join(found)
        assert read_config(engine.client, tag) == read_config(engine.client, image)
    finally:
        engine.client.images.get("compared:built").tag(*tag.rsplit(":", 1))


@pytest.mark.parametrize("engine", [NEW, CONTAINERD], indirect=True)
class TestBake:
    def test_bake_makes_the_same_image_and_leaves_no_trace(
        self, engine: Engine, site: SmallSite
    ) -> None:
        asked = len(site.mirror.requests)
        image = built(site.build(engine, "--engine", "bake", "--json", *HOST))
        paths = [path for path, _range in site.mirror.requests[asked:]]
        assert any(path.startswith("/files/torch-") for path in paths)  # asked for by RUN steps
        assert traces(engine, site, image["image"]) == []
        compare_with_assembled(engine, site, image["image"])


@pytest.mark.parametrize("engine", [OLD, NEW], indirect=True)
class TestFailures:
    def test_a_step_that_fails_is_shown_with_its_log(self, engine: Engine, site: SmallSite) -> None:
        name = forget(engine, site)
        site.mirror.faults[name] = ["404"] * 99
        try:
            result = site.build(engine, "--engine", "docker", "--json")
        finally:
            site.mirror.faults.clear()
        assert result.returncode == 7, result.stderr
        (failed,) = json.loads(result.stdout)
        assert "ballast" in failed["error"]
        assert "step: RUN umask 0002" in failed["error"]
        assert "log: " in failed["error"]
        assert engine.client.containers.list(all=True) == []

    def test_ctrl_c_cancels_the_engine_s_build(self, engine: Engine, site: SmallSite) -> None:
        name = forget(engine, site)
        site.mirror.faults[name] = ["stall"] * 9
        asked = len(site.mirror.requests)
        process = site.start(engine, "--engine", "docker", "--output", site.folder / "dist")
        try:
            deadline = time.monotonic() + 120
            while not any(path == name for path, _ in site.mirror.requests[asked:]):
                assert time.monotonic() < deadline
                assert process.poll() is None, process.communicate()
                time.sleep(0.1)
            while not is_working(engine):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            _stdout, stderr = process.communicate(timeout=30)
        finally:
            process.kill()
            site.mirror.faults.clear()
        assert process.returncode == 130, stderr
        deadline = time.monotonic() + 30
        while is_working(engine) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not is_working(engine)


def is_working(engine: Engine) -> bool:
    """Whether there is a container, or an installer that a RUN step has started."""
    commands = (path / "cmdline" for path in Path("/proc").glob("[0-9]*"))
    return bool(engine.client.containers.list(all=True)) or any(map(is_installer, commands))


def is_installer(command: Path) -> bool:
    """Whether /proc has such a program; one that has just ended is none."""
    try:
        return command.read_bytes().startswith(b"/tmp/uv/bin/uv\0")
    except OSError:
        return False


def forget(engine: Engine, site: SmallSite) -> str:
    """Let the next build run every step and fetch every wheel; returns one wheel's address."""
    engine.client.api.timeout = 120
    for image in engine.client.images.list():
        engine.client.images.remove(str(image.id), force=True)
    engine.client.api.prune_builds(all=True)
    site.forget_wheels()
    (name,) = (path for path in site.mirror.files if re.match(r"/files/ballast-.*whl$", path))
    return name


@pytest.mark.parametrize("engine", [OLD], indirect=True)
class TestWhatIsMissing:
    def test_no_engine(self, engine: Engine, site: SmallSite) -> None:
        away = {**engine.environment, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
        other = Engine(engine.name, engine.client, engine.folder, away)
        result = site.build(other, "--engine", "docker")
        assert result.returncode == 12
        assert "is not running: start it" in result.stderr

    def test_no_buildx(self, engine: Engine, site: SmallSite, tmp_path: Path) -> None:
        bare = {**engine.environment, "DOCKER_CONFIG": str(tmp_path)}
        result = site.build(
            Engine(engine.name, engine.client, engine.folder, bare), "--engine", "bake"
        )
        assert result.returncode == 12
        assert "install the buildx plug-in" in result.stderr
