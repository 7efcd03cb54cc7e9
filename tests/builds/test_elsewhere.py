"""Commands on macOS and Windows, as far as Linux can play them: what those lack is taken away."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.project import REPOSITORY

WINDOWS = """\
import os, signal, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in (
    "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "chown", "fchmod", "fchown", "fork",
    "getegid", "geteuid", "getgid", "getpgid", "getuid", "killpg", "lchown", "mkfifo", "setsid",
    "sched_getaffinity", "statvfs", "sync", "uname",
):
    delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1"):
    delattr(signal, name)
sys.platform = "win32"
"""
MACOS = """\
import os, sys
for name in ("sched_getaffinity", "O_TMPFILE", "posix_fadvise", "memfd_create", "setresuid"):
    delattr(os, name)
sys.platform = "darwin"
"""
# Other people's modules and the standard library's choose by platform; only ours are tried here.
OTHERS = """\
import asyncio, ctypes.util, getpass, mmap, multiprocessing, pathlib, platform, shutil, subprocess
import tarfile, tempfile, uuid, zipfile, zoneinfo
import httpx, jinja2, packaging.requirements, platformdirs, pydantic, rich.console, rich.progress
import rich.table, truststore, yaml
"""
RUN = """
sys.path.insert(0, sys.argv.pop(1))
from wheelyard.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run(system: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = OTHERS + system + RUN
    places = {"HOME": str(folder), "WHEELYARD_CACHE": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-c", code, str(REPOSITORY), *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", **places},
    )  # fmt: skip


@pytest.mark.parametrize("system", [WINDOWS, MACOS], ids=["windows", "macos"])
class TestWhatWorksAnywhere:
    def test_plan(self, system: str, tmp_path: Path) -> None:
        done = run(system, tmp_path, "plan", "pytorch-2.3.1", "--project", str(REPOSITORY))
        assert done.returncode == 0, done.stderr
        assert "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11" in done.stdout

    def test_pick_for_another_machine(self, system: str, tmp_path: Path) -> None:
        there = ["--driver", "580.65.06", "--project", str(REPOSITORY)]
        done = run(system, tmp_path, "pick", "--framework", "pytorch", *there)
        assert done.returncode == 0, done.stderr
        assert "pytorch:" in done.stdout


def test_devcontainer_init_on_macos(tmp_path: Path) -> None:
    options = ["--output", str(tmp_path / "mine"), "--framework", "pytorch"]
    done = run(MACOS, tmp_path, "devcontainer", "init", *options, "--project", str(REPOSITORY))
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "mine").rglob("devcontainer.json"))


@pytest.mark.parametrize(
    "command",
    [
        ["build", "pytorch-2.3.1"],
        ["push", "pytorch-2.3.1", "--known", "--registry", "registry.invalid/team"],
        ["devcontainer", "init", "--framework", "pytorch"],
    ],
    ids=lambda command: command[0],
)
def test_what_does_not_work_on_windows_says_so_at_once(command: list[str], tmp_path: Path) -> None:
    done = run(WINDOWS, tmp_path, *command, "--project", str(REPOSITORY))
    assert done.returncode == 13, done.stderr
    assert f"`wheelyard {command[0]}` cannot do this on win32" in done.stderr
    assert "WSL" in done.stderr
    assert not (tmp_path / "cache").exists()


def test_push_known_gets_as_far_as_the_registry_on_macos(tmp_path: Path) -> None:
    options = ["--known", "--registry", "127.0.0.1:9/team", "--project", str(REPOSITORY)]
    done = run(MACOS, tmp_path, "push", "pytorch-2.3.1", *options)
    assert done.returncode not in (0, 70), done.stderr
    assert "Traceback" not in done.stderr
