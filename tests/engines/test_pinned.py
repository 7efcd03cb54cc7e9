"""A base that the matrix takes from a registry by digest: pulled, made fit, built on."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engines.conftest import OLD
from tests.engines.daemons import Engine
from tests.engines.site import SmallSite, built
from tests.needs import need_tools
from tests.peers.command import wheelyard
from tests.peers.registries import free_port
from wheelyard.console.progress import QuietReporter
from wheelyard.lock.sources import debian_sources
from wheelyard.settings import Settings

WITH_VENV = ("--variant=apt", "--include=python3.11-venv,ca-certificates")
CONTRACT = """
import grp, os, pwd, stat, sys
venv, dev = os.stat("/opt/venv"), pwd.getpwnam("dev")
print(dev.pw_uid, grp.getgrnam("venv").gr_gid, oct(stat.S_IMODE(venv.st_mode)), venv.st_gid,
      os.getuid(), os.access("/opt/venv/bin", os.W_OK), sys.prefix, os.getcwd())
"""


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Debian's registry on a free port of loopback, which engines take without TLS."""
    need_tools("docker-registry")
    port = free_port()
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "registry.yml").write_text(json.dumps(config))
    argv = ["docker-registry", "serve", str(folder / "registry.yml")]
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not answers(port):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def push_debian(
    engine: Engine, address: str, folder: Path, settings: Settings,
    suite: str = "bookworm", options: Sequence[str] = WITH_VENV,
) -> str:  # fmt: skip
    """A Debian, with venv by default, in the registry and nowhere else; its name with digest."""
    need_tools("mmdebstrap")
    sources = debian_sources(suite, settings, QuietReporter(None))
    lines = [f"deb {x.uri} {x.suite} {' '.join(x.components)}" for x in sources]
    tar = folder / "debian.tar"
    argv = ["mmdebstrap", *options, suite, str(tar), *lines]
    subprocess.run(argv, check=True, capture_output=True)
    name = f"{address}/debian:{suite}"

    def docker(*arguments: str) -> str:
        done = subprocess.run(
            ["docker", *arguments], env=engine.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    docker("import", str(tar), name)
    docker("push", name)
    digest = docker("inspect", "--format", "{{index .RepoDigests 0}}", name).strip()
    docker("rmi", name)  # the last tag takes the digest with it
    return digest


@pytest.mark.parametrize("engine", [OLD], indirect=True)
def test_an_image_is_built_on_a_registry_s_image(
    engine: Engine, site: SmallSite, scratch: Path, settings: Settings
) -> None:
    matrix_file = site.project / "matrix.yaml"
    matrix: dict[str, Any] = yaml.safe_load(matrix_file.read_text())
    with registry(scratch) as address:
        image = push_debian(engine, address, scratch, settings)
        matrix["bases"]["bookworm"]["image"] = image
        matrix_file.write_text(yaml.safe_dump(matrix))
        assert wheelyard(["render", "--project", site.project], scratch).returncode == 0
        found = built(site.build(engine, "--engine", "docker", "--json"))
        gone = image.replace(image[-8:], "00000000")
        matrix["bases"]["bookworm"]["image"] = gone
        matrix_file.write_text(yaml.safe_dump(matrix))
        assert wheelyard(["render", "--project", site.project], scratch).returncode == 0
        refused = site.build(engine, "--engine", "docker")
    said = subprocess.run(
        ["docker", "run", "--rm", "--network=none", found["image"], "python", "-c", CONTRACT],
        env=engine.environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert said.split() == [
        "1000",
        "900",
        "0o2775",
        "900",
        "1000",
        "True",
        "/opt/venv",
        "/workspace",
    ]
    assert refused.returncode == 12
    assert "cannot pull" in refused.stderr
