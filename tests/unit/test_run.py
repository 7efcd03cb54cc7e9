"""`wheelyard run`: which image is meant, and the line that starts it."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from nvml import simulated

from wheelyard.cli import main
from wheelyard.contract.runtimes import EngineFacts
from wheelyard.errors import EngineError, SelectionError, UsageError
from wheelyard.servers.machine import LocalEngine
from wheelyard.servers.running import Start, start_line

ROOT = Path(__file__).parents[2]
START = Start("i:1", (), Path("/home/me/x y"), (1234, 100), gpus=False)
IDS = f"--user {os.getuid()}:{os.getgid()} --group-add 900"


@pytest.mark.parametrize(
    ("runtime", "changes", "line"),
    [
        ("docker", {}, "docker run --rm --interactive --tty --shm-size=8g --user 1234:100 "
         "--group-add 900 --volume /home/me/x y:/workspace i:1"),
        ("docker", {"terminal": False, "gpus": True, "ids": None, "folder": None},
         "docker run --rm --interactive --gpus all --shm-size=8g i:1"),
        ("docker-cdi", {"gpus": True, "ids": None, "folder": None,
         "command": ("python", "-c", "1")},
         "docker run --rm --interactive --tty --device nvidia.com/gpu=all --shm-size=8g "
         "i:1 python -c 1"),
        ("podman", {"rootless": True, "folder": None, "ports": (8888, 6006)},
         "podman run --rm --interactive --tty --shm-size=8g --userns=keep-id --user 1234:100 "
         "--group-add 900 --publish 127.0.0.1:8888:8888 --publish 127.0.0.1:6006:6006 i:1"),
        ("podman", {"gpus": True, "folder": None, "ids": None},
         "podman run --rm --interactive --tty --device nvidia.com/gpu=all "
         "--security-opt=label=disable --shm-size=8g i:1"),
    ],
)  # fmt: skip
def test_the_line(runtime: str, changes: dict[str, object], line: str) -> None:
    assert " ".join(start_line(runtime, replace(START, **changes))) == line  # type: ignore[arg-type]


class TestTheCommand:
    @pytest.fixture(autouse=True)
    def _machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An engine that passes GPUs on, on a machine that has none."""
        facts = EngineFacts("26.1", ("runc", "nvidia"), "/var/lib/docker", cdi=False)
        monkeypatch.setattr("wheelyard.servers.machine.read_engine", lambda: LocalEngine(facts))

    def printed(self, capsys: pytest.CaptureFixture[str], *words: str) -> str:
        assert main(["run", "--print", "--project", str(ROOT), *words]) == 0
        return capsys.readouterr().out.strip()

    def test_one_image_of_the_matrix(self, capsys: pytest.CaptureFixture[str]) -> None:
        line = self.printed(capsys, "--no-mount", "pytorch-2.3.1-runtime", "python", "-V")
        tag = "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11"
        expected = f"docker run --rm --interactive --tty --shm-size=8g {IDS} {tag} python -V"
        assert line == expected

    def test_of_several_the_one_for_this_machine(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "-devel" in self.printed(capsys, "--flavour", "devel", "pytorch-2.3.1")
        assert "pytorch:2.15" in self.printed(capsys, "pytorch")

    def test_an_old_driver_gets_an_older_image(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", simulated("h100"))
        monkeypatch.setattr(
            "wheelyard.selfcheck.gpu.driver.importlib.util.find_spec", lambda name: name
        )
        assert " --gpus all " in self.printed(capsys, "pytorch")
        assert " --gpus " not in self.printed(capsys, "--no-gpus", "pytorch")

    def test_any_other_image_by_its_name(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.printed(capsys, "--no-mount", "debian:12").endswith(" debian:12")

    def test_this_folder_is_mounted(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert f"--volume {tmp_path}:/workspace " in self.printed(capsys, "debian:12")

    def test_a_word_that_means_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["run", "--project", str(ROOT), "pytroch"]) == SelectionError.exit_code
        assert "pytorch" in capsys.readouterr().err

    @pytest.mark.parametrize("word", ["--print", "--port", "-it"])
    def test_an_option_behind_the_image(
        self, word: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["run", "pytorch-2.3.1-runtime", word]) == UsageError.exit_code
        assert "options go before IMAGE" in capsys.readouterr().err

    def test_no_engine(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("wheelyard.servers.machine.read_engine", lambda: LocalEngine(None))
        monkeypatch.setattr("wheelyard.servers.machine.read_programs", frozenset)
        code = main(["run", "--print", "--project", str(ROOT), "pytorch-2.3.1-runtime"])
        assert code == EngineError.exit_code
        assert "install one" in capsys.readouterr().err

    @pytest.mark.parametrize("port", ["0", "65536", "http", "-1"])
    def test_no_port(self, port: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["run", f"--port={port}", "debian:12"]) == 2
        assert "is not a port" in capsys.readouterr().err
