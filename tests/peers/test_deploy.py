"""What `deploy` writes, read by those who will run it: compose, quadlet, Kubernetes' schemas."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.engines.trixie import started_from
from tests.needs import missing
from tests.peers.project import REPOSITORY
from wheelyard.cli import main

if TYPE_CHECKING:
    from docker import DockerClient

DEVEL = "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11-devel"
WORDS = ["run", "a b", "$HOME", "$(id)", "100%", 'say "x"', "back\\slash", "it's", "${x:-y}"]
AWKWARD = ("--command", " ".join("'" + word.replace("'", "'\\''") + "'" for word in WORDS))


def deploy(folder: Path, kind: str, *words: str) -> Path:
    """The file that was written."""
    given = ["deploy", DEVEL, "--kind", kind, "--output", str(folder), "--name", "lab", "--quiet"]
    assert main([*given, "--project", str(REPOSITORY), *words]) == 0
    names = {"quadlet": "lab.container"}
    return folder / names.get(kind, f"{kind}.yaml")


class TestCompose:
    def read(self, tools: Path, path: Path) -> Any:
        """What docker-compose makes of the file."""
        compose = started_from(tools, "usr/libexec/docker/cli-plugins/docker-compose")
        done = subprocess.run(
            [*compose, "--file", str(path), "config", "--format", "json"],
            check=False, capture_output=True, text=True,
            env={name: value for name, value in os.environ.items() if name != "JUPYTER_TOKEN"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)["services"]["lab"]

    def test_jupyterlab_with_gpus_on_loopback(self, trixie_tools: Path, tmp_path: Path) -> None:
        service = self.read(trixie_tools, deploy(tmp_path, "compose"))
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"capabilities": ["gpu"], "driver": "nvidia", "count": -1}
        (port,) = service["ports"]
        assert (port["host_ip"], port["target"]) == ("127.0.0.1", 8888)
        assert service["environment"] == {"JUPYTER_TOKEN": ""}
        (settings,) = [x for x in service["volumes"] if x["type"] == "bind"]
        assert Path(settings["source"]).is_file()
        assert int(service["shm_size"]) == 8 << 30

    def test_words_arrive_as_they_were_given(self, trixie_tools: Path, tmp_path: Path) -> None:
        service = self.read(trixie_tools, deploy(tmp_path, "compose", *AWKWARD))
        assert [word.replace("$$", "$") for word in service["command"]] == WORDS

    def test_an_engine_makes_the_container_as_it_is_written(
        self, trixie_tools: Path, engine: DockerClient, tiny_dist: Path, tmp_path: Path,
        need: Callable[..., None],
    ) -> None:  # fmt: skip
        """Everything but the start, which asks for a GPU; a small image goes by the same name."""
        need("skopeo")
        host = os.environ["DOCKER_HOST"]
        copy = [
            "skopeo",
            "copy",
            "--quiet",
            f"--dest-daemon-host={host}",
            f"oci:{tiny_dist}:{DEVEL}",
        ]
        subprocess.run([*copy, f"docker-daemon:{DEVEL}"], check=True, capture_output=True)
        path = deploy(tmp_path, "compose")
        compose = started_from(trixie_tools, "usr/libexec/docker/cli-plugins/docker-compose")
        create = [*compose, "--file", str(path), "create", "--pull", "never"]
        done = subprocess.run(create, check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        (container,) = engine.containers.list(all=True)
        seen = container.attrs["HostConfig"]
        assert seen["ShmSize"] == 8 << 30
        assert seen["PortBindings"] == {"8888/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8888"}]}
        (request,) = seen["DeviceRequests"]
        assert (request["Driver"], request["Capabilities"]) == ("nvidia", [["gpu"]])
        mounts = {x["Destination"]: x for x in container.attrs["Mounts"]}
        assert mounts["/workspace"]["Type"] == "volume"
        settings = mounts["/etc/jupyter/jupyter_server_config.py"]
        assert (settings["Type"], settings["RW"]) == ("bind", False)
        assert container.attrs["Config"]["User"] == "1000"


class TestQuadlet:
    def test_systemd_takes_the_unit_that_podman_makes(
        self, trixie_tools: Path, need: Callable[..., None], tmp_path: Path
    ) -> None:
        need("systemd-analyze", "podman")
        path = deploy(tmp_path / "given", "quadlet")
        quadlet = started_from(trixie_tools, "usr/libexec/podman/quadlet")
        env = {**os.environ, "QUADLET_UNIT_DIRS": str(path.parent)}
        made = tmp_path / "made"
        made.mkdir()
        subprocess.run([*quadlet, "-user", str(made)], check=True, capture_output=True, env=env)
        unit = made / "lab.service"

        def verified() -> int:
            check = ["systemd-analyze", "verify", str(unit)]
            return subprocess.run(check, check=False, capture_output=True).returncode

        assert verified() == 0
        unit.write_text(unit.read_text().replace("ExecStart=/", "ExecStart=none/"))
        assert verified() != 0  # what the line above stands on

    def start_line(self, tools: Path, path: Path) -> str:
        """The command that podman's generator makes of the unit."""
        done = subprocess.run(
            [*started_from(tools, "usr/libexec/podman/quadlet"), "-dryrun", "-user"],
            check=False, capture_output=True, text=True,
            env={**os.environ, "QUADLET_UNIT_DIRS": str(path.parent)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "unsupported key" not in done.stderr
        starts = [x for x in done.stdout.splitlines() if x.startswith("ExecStart=")]
        assert len(starts) == 1, done.stderr
        return starts[0]

    def test_jupyterlab_with_gpus_on_loopback(self, trixie_tools: Path, tmp_path: Path) -> None:
        path = deploy(tmp_path, "quadlet")
        words = self.start_line(trixie_tools, path).split()
        after = dict(itertools.pairwise(words))
        assert after["--device"] == "nvidia.com/gpu=all"
        assert after["--publish"] == "127.0.0.1:8888:8888"
        assert "--shm-size=8g" in words
        assert f"{DEVEL} jupyter lab --no-browser" in " ".join(words)
        settings = tmp_path / "jupyter_server_config.py"
        assert f"{settings}:/etc/jupyter/{settings.name}:ro" in words

    def test_words_arrive_as_they_were_given(self, trixie_tools: Path, tmp_path: Path) -> None:
        """quadlet quotes again what it read; systemd's specifiers and variables stay doubled."""
        line = self.start_line(trixie_tools, deploy(tmp_path, "quadlet", *AWKWARD))
        _, _, command = line.partition(f"{DEVEL} ")
        expected = [word.replace("%", "%%").replace("$", "$$") for word in WORDS]
        assert split_like_systemd(command) == expected


def split_like_systemd(line: str) -> list[str]:
    """Words in double quotes, with backslashes before what they escape (systemd.syntax(7))."""
    words, word, quoted, rest = [], "", False, iter(f"{line} ")
    seen = False
    for letter in rest:
        if letter == "\\":
            word += next(rest)
        elif letter == '"':
            quoted, seen = not quoted, True
        elif letter == " " and not quoted:
            if word or seen:
                words.append(word)
            word, seen = "", False
        else:
            word += letter
    return words


class TestKubernetes:
    @pytest.fixture
    def validate(self) -> str:
        beside = str(Path(sys.executable).parent)
        found = shutil.which("kubernetes-validate", path=f"{beside}:{os.environ['PATH']}")
        return found or missing("kubernetes-validate is not installed beside this Python")

    @pytest.mark.parametrize("kind", ["deployment", "job"])
    @pytest.mark.parametrize("words", [(), ("--gpus", "2", *AWKWARD, "--port", "8000")])
    @pytest.mark.parametrize("version", ["1.27", "1.33"])
    def test_manifests_hold_to_the_schemas(
        self, validate: str, tmp_path: Path, kind: str, words: tuple[str, ...], version: str
    ) -> None:
        path = deploy(tmp_path, kind, *words)
        argv = [validate, "--strict", "--kubernetes-version", version, str(path)]
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_a_wrong_one_is_told(self, validate: str, tmp_path: Path) -> None:
        path = deploy(tmp_path, "job")
        path.write_text(path.read_text().replace("backoffLimit: 0", "backOffLimit: 0"))
        done = subprocess.run([validate, "--strict", str(path)], check=False, capture_output=True)
        assert done.returncode != 0

    def test_the_examples_hold_to_the_schemas(self, validate: str) -> None:
        example = REPOSITORY / "docs/examples/kubernetes-job.yaml"
        done = subprocess.run([validate, "--strict", example], check=False, capture_output=True)
        assert done.returncode == 0, done.stdout
