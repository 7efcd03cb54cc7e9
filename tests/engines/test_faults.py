"""What goes wrong with an engine: said with what to do, and nothing is left of the attempt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engines import trixie
from tests.engines.conftest import NEW, OLD, choose
from tests.engines.daemons import (
    Engine,
    client_environment,
    own_engine,
    small_room,
    temporary_folder,
)
from tests.engines.site import SmallSite, built
from tests.engines.test_build import forget
from tests.needs import need_tools
from tests.peers.command import wheelyard
from tests.peers.registries import registry, with_passwords
from wheelyard.lock.inputs import cells_by_id, requirements_inputs
from wheelyard.lock.lockfile import read_requirements_lock, render_requirements_lock
from wheelyard.model import Cell, LockedWheel, RequirementsLock
from wheelyard.planning.plan import load_plan
from wheelyard.settings import Settings

WAYS = {"docker": ("--engine", "docker"), "bake": ("--engine", "bake", "--network", "host")}
STRANGER = 54321
# Root without the right to pass over permissions is refused like any other user.
REFUSED_LIKE_OTHERS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
ROOM = 1200 << 20  # bytes: the base unpacked, and what an engine needs besides
LEFT = 1 << 20  # bytes left in it for the RUN steps


def elsewhere(engine: Engine, address: str) -> Engine:
    return replace(engine, environment={**engine.environment, "DOCKER_HOST": address})


@pytest.mark.parametrize("engine", [NEW], indirect=True)
@pytest.mark.parametrize("way", WAYS)
class TestNoEngine:
    def test_not_running(self, engine: Engine, site: SmallSite, way: str) -> None:
        away = elsewhere(engine, "unix:///nowhere/docker.sock")
        result = site.build(away, *WAYS[way])
        assert result.returncode == 12, result.stderr
        assert "/nowhere/docker.sock (chosen by DOCKER_HOST) is not running: start it" in (
            result.stderr
        )

    def test_no_permission_on_the_socket(self, engine: Engine, site: SmallSite, way: str) -> None:
        path = engine.folder / "docker.sock"
        os.chown(path, STRANGER, STRANGER)
        try:
            result = site.build(engine, *WAYS[way], under=REFUSED_LIKE_OTHERS)
        finally:
            os.chown(path, 0, 0)
        assert result.returncode == 12, result.stderr
        assert "may not be used by this user: add the user to the group" in result.stderr

    def test_too_old(self, engine: Engine, site: SmallSite, way: str) -> None:
        with docker_18() as address:
            result = site.build(elsewhere(engine, address), *WAYS[way])
        assert result.returncode == 12, result.stderr
        assert "the engine is too old: version 18.09.9 (API 1.39)" in result.stderr
        assert "without --engine needs none" in result.stderr


@contextmanager
def docker_18() -> Iterator[str]:
    """What Docker 18.09 answers when asked what it is; no such engine is at hand."""
    facts = {"Version": "18.09.9", "ApiVersion": "1.39", "MinAPIVersion": "1.12", "Os": "linux"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.partition("?")[0].rpartition("/")[2]
            if name in ("version", "_ping"):
                self._answer(200, json.dumps(facts).encode())
            else:
                self._answer(404, b'{"message": "page not found"}')

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            self.do_GET()

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Api-Version", facts["ApiVersion"])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("engine", [NEW], indirect=True)
class TestBake:
    def test_a_step_that_fails_is_shown_with_its_log(self, engine: Engine, site: SmallSite) -> None:
        name = forget_all(engine, site)
        site.mirror.faults[name] = ["404"] * 99
        try:
            result = site.build(engine, *WAYS["bake"], "--json")
        finally:
            site.mirror.faults.clear()
        assert result.returncode == 12, result.stderr
        (failed,) = json.loads(result.stdout)
        assert "step: [framework 1/1] RUN --mount=type=secret" in failed["error"]
        assert "ballast" in failed["error"]
        log = Path(failed["error"].rpartition("log: ")[2])
        assert "ballast" in log.read_text()
        assert [word for word in site.mirror.secrets if word in log.read_bytes()] == []

    def test_ctrl_c_cancels_the_build(self, engine: Engine, site: SmallSite) -> None:
        name = forget_all(engine, site)
        site.mirror.faults[name] = ["stall"] * 9
        asked = len(site.mirror.requests)
        process = site.start(engine, *WAYS["bake"], "--output", site.folder / "dist")
        try:
            wait_until(lambda: name in dict(site.mirror.requests[asked:]), process)
            assert installers(site)
            process.send_signal(signal.SIGINT)
            _stdout, stderr = process.communicate(timeout=30)
        finally:
            process.kill()
            site.mirror.faults.clear()
        assert process.returncode == 130, stderr
        wait_until(lambda: not installers(site))
        assert engine.client.containers.list(all=True) == []
        built(site.build(engine, *WAYS["bake"], "--json"))  # nothing of it is in the way


def forget_all(engine: Engine, site: SmallSite) -> str:
    """Let the next build run every step and fetch every wheel; returns one wheel's address."""
    name = forget(engine, site)
    prune = ["docker", "buildx", "prune", "--all", "--force"]
    subprocess.run(prune, env=engine.environment, check=True, capture_output=True)
    return name


def installers(site: SmallSite) -> list[int]:
    """Processes of RUN steps that were told this site's index."""
    told = f"UV_DEFAULT_INDEX={site.mirror.base}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if told in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found


def wait_until(reached: Any, process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 180
    while not reached():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process and process.communicate()
        time.sleep(0.1)


@pytest.mark.parametrize(("kind", "way"), [(OLD, "docker"), (NEW, "docker"), (NEW, "bake")])
def test_a_full_disk_is_named_and_room_is_all_it_takes(
    settings: Settings, site: SmallSite, kind: str, way: str
) -> None:
    with small_room(ROOM) as room, own_engine(room, choose(kind, settings)) as client:
        config = trixie.client_configuration(room, trixie.trixie_root(settings))
        environment = {**client_environment(room), "DOCKER_CONFIG": str(config)}
        engine = Engine(kind, client, room, environment)
        site.forget_wheels()
        load_base(engine, site)
        ballast = room / "ballast"
        free = os.statvfs(room).f_bavail * os.statvfs(room).f_frsize
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - LEFT)
        result = site.build(engine, *WAYS[way])
        assert result.returncode == 12, result.stderr
        assert "the engine's disk is full: free space (`docker system df`)" in result.stderr
        assert "log: " in result.stderr
        ballast.unlink()
        built(site.build(engine, *WAYS[way], "--json"))


def load_base(engine: Engine, site: SmallSite) -> None:
    """`wheelyard base`, into the engine."""
    given: list[str | Path] = ["--project", site.project, "--cache-dir", site.folder / "cache"]
    words = ["base", *given, "--output", site.folder / "dist" / "bases"]
    done = wheelyard(words, site.folder, engine.client_settings)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("engine", "way"), [(OLD, "docker"), (NEW, "bake")], indirect=["engine"])
def test_a_registry_that_refuses(
    engine: Engine, site: SmallSite, way: str, request: pytest.FixtureRequest
) -> None:
    need_tools("docker-registry")
    with temporary_folder(request.config.getoption("--scratch")) as folder:
        other = replace(site, folder=folder)
        (folder / "cache").symlink_to(site.folder / "cache")
        subprocess.run(["cp", "-a", site.project, other.project], check=True)
        with registry(folder, **with_passwords(folder)) as address:
            name_base(other.project / "matrix.yaml", f"{address}/debian@sha256:{'1' * 64}")
            rendered = wheelyard(["render", "--project", other.project], folder)
            assert rendered.returncode == 0, rendered.stderr
            result = other.build(engine, *WAYS[way][:2])
    assert result.returncode == 12, result.stderr
    assert "the registry refused: check the image's name, and log in" in result.stderr


def name_base(matrix_file: Path, image: str) -> None:
    """Let the project's base start from a registry's image."""
    matrix: dict[str, Any] = yaml.safe_load(matrix_file.read_text())
    matrix["bases"]["bookworm"]["image"] = image
    matrix_file.write_text(yaml.safe_dump(matrix))


@pytest.mark.parametrize(("engine", "way"), [(OLD, "docker"), (NEW, "bake")], indirect=["engine"])
def test_an_image_that_fails_stops_no_other(
    engine: Engine, site: SmallSite, way: str, request: pytest.FixtureRequest
) -> None:
    with temporary_folder(request.config.getoption("--scratch")) as folder:
        other = replace(site, folder=folder)
        (folder / "cache").symlink_to(site.folder / "cache")
        subprocess.run(["cp", "-a", site.project, other.project], check=True)
        doomed, healthy = add_doomed(other)
        site.forget_wheels()
        result = other.build(engine, *WAYS[way], "--json")
    failed, good = json.loads(result.stdout)
    assert result.returncode != 0
    assert (failed["id"], good["id"]) == (doomed.id, healthy.id)
    assert "never-published" in failed["error"]
    assert engine.client.images.get(good["tags"][0]).id == good["image"]


def add_doomed(site: SmallSite) -> tuple[Cell, Cell]:
    """Two cells in the order they are built in; the first one's lock names a wheel nobody has."""
    path = site.project / "matrix.yaml"
    matrix = yaml.safe_load(path.read_text())
    same = {name: matrix["axes"][name][0] for name in ("framework", "cuda", "python", "base")}
    matrix["include"] = [{**same, "cudnn": "8.9.2", "flavours": ["runtime"]}]
    path.write_text(yaml.safe_dump(matrix))
    plan = load_plan(site.project)
    doomed, good = plan.cells
    pins = read_requirements_lock(site.project / site.cell.lock).wheels
    name = "never_published-1.0-py3-none-any.whl"
    unknown = LockedWheel("never-published", "1.0", name, "0" * 64, 1)
    for cell, wheels in ((doomed, (*pins, unknown)), (good, pins)):
        inputs = requirements_inputs(cell, cells_by_id(plan.cells))
        own = RequirementsLock(cell.id, inputs, tuple(sorted(wheels, key=lambda x: x.name)))
        target = site.project / cell.lock
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(render_requirements_lock(own))
    rendered = wheelyard(["render", "--project", site.project], site.folder)
    assert rendered.returncode == 0, rendered.stderr
    return doomed, good
