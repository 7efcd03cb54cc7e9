"""A container that was opened: its user, environment, memory, volumes; what a user does in it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.devcontainer.workplace import Workplace
from tests.image.test_install import WHEEL, make_wheel

TRAIN, DEBUG = (Path(__file__).with_name(name) for name in ("train.py", "debug.py"))
PACKAGES = "/opt/venv/lib/python3.11/site-packages"
REMAP_LAYER = 1 << 20  # bytes: the user's files alone, and never the environment
COMPLAINT = "is not writable for dev ("  # as it is printed; the command itself is in the log, too
CACHES = ("/home/dev/.cache", "/home/dev/.vscode-server/extensions")


@pytest.fixture
def container(opened: Workplace) -> Any:
    """What the engine knows of the container."""
    label = f"devcontainer.local_folder={opened.project}"
    (found,) = opened.engine.client.containers.list(filters={"label": label})
    return found


def put(opened: Workplace, name: str, content: bytes) -> None:
    path = opened.project / name
    path.write_bytes(content)
    path.chmod(0o755)
    shutil.chown(path, opened.owner, opened.owner)


def test_the_user_is_dev_with_the_ids_of_who_opened_it(opened: Workplace) -> None:
    ids = opened.shell("id -un; id -u; id -g; id -Gn").splitlines()
    assert ids[:3] == ["dev", str(opened.owner), str(opened.owner)]
    assert "venv" in ids[3].split()


def test_what_is_written_in_the_workspace_belongs_to_its_owner(opened: Workplace) -> None:
    opened.shell("mkdir -p deep/er && echo x > deep/er/file")
    status = (opened.project / "deep/er/file").stat()
    assert (status.st_uid, status.st_gid) == (opened.owner, opened.owner)


@pytest.mark.parametrize("shell", [["bash", "-c"], ["bash", "-lc"], ["bash", "-ic"], ["sh", "-c"]])
def test_every_shell_finds_the_environment(opened: Workplace, shell: list[str]) -> None:
    found = opened.output(*shell, "command -v python; echo $VIRTUAL_ENV")
    assert found.splitlines()[-2:] == ["/opt/venv/bin/python", "/opt/venv"]


def test_framework_and_tools_import(opened: Workplace) -> None:
    program = "import torch, jupyterlab, tensorboard, debugpy; print(torch.__version__)"
    assert opened.output("python", "-c", program).startswith("2.3.1")


def test_a_training_step_leaves_a_checkpoint(opened: Workplace) -> None:
    put(opened, "train.py", TRAIN.read_bytes())
    assert opened.output("python", "train.py") == "falls"
    assert (opened.project / "checkpoints/step.pt").stat().st_uid == opened.owner


def test_data_loaders_have_room_in_shared_memory(opened: Workplace) -> None:
    assert opened.shell("df -B1 --output=size /dev/shm | tail -1") == str(8 << 30)


@pytest.mark.parametrize("folder", CACHES)
def test_caches_are_named_volumes_that_the_user_may_write(
    opened: Workplace, container: Any, folder: str
) -> None:
    (mount,) = [x for x in container.attrs["Mounts"] if x["Destination"] == folder]
    assert mount["Type"] == "volume"
    assert mount["Name"].startswith("wheelyard-")
    opened.shell(f"touch {folder}/probe && test -O {folder}/probe")


def test_the_environment_is_not_copied_for_another_id(opened: Workplace, container: Any) -> None:
    history = container.image.history()  # the newest layer first
    below = opened.engine.client.images.get(opened.read()["image"]).history()
    added = history[: len(history) - len(below)]
    assert added
    assert sum(step["Size"] for step in added) < REMAP_LAYER


def test_pip_installs_and_removes(opened: Workplace) -> None:
    put(opened, WHEEL, make_wheel())
    opened.shell(f"pip install --no-index --disable-pip-version-check {WHEEL}")
    assert opened.output("wheelyard-probe") == "probe answers"
    opened.shell("pip uninstall --yes --disable-pip-version-check wheelyard-probe")


def test_uv_installs_and_removes(opened: Workplace) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    assert uv is not None  # a dependency of ours
    put(opened, "uv", Path(uv).read_bytes())
    put(opened, WHEEL, make_wheel())
    said = opened.execute("bash", "-c", f"./uv pip install --offline --no-index ./{WHEEL}")
    assert said.returncode == 0, said.stderr
    assert "hardlink" not in said.stderr  # the cache is another file system, and that is known
    assert opened.output("wheelyard-probe") == "probe answers"
    opened.shell("./uv pip uninstall wheelyard-probe && rm uv")


def test_an_editors_debugger_stops_in_the_environments_python(opened: Workplace) -> None:
    """With the interpreter that the settings name, as `launch.json` of the template is run."""
    said = opened.call("read-configuration", "--include-merged-configuration")
    editors = json.loads(said.stdout)["mergedConfiguration"]["customizations"]["vscode"]
    (python,) = {x["settings"]["python.defaultInterpreterPath"] for x in editors}
    put(opened, "small.py", b"import packaging\nfound = packaging.__file__\nprint(found)\n")
    put(opened, "debug.py", DEBUG.read_bytes())
    program = f"/workspaces/{opened.project.name}/small.py"
    said_there = opened.output(python, "debug.py", program, "3", "found")
    assert said_there.splitlines()[-1] == f"3 '{PACKAGES}/packaging/__init__.py'"


def test_gdb_attaches_to_a_process(opened: Workplace) -> None:
    gdb = "gdb -p $! -batch -ex 'info threads'"
    said = opened.shell(f"python -c 'import time; time.sleep(60)' & sleep 1; {gdb}; kill $!")
    assert "Thread" in said


def test_processes_are_reaped(opened: Workplace) -> None:
    """An editor replaces the image's entry point; `init` brings one that reaps."""
    assert opened.shell("cat /proc/1/comm") in {"docker-init", "tini"}
    opened.shell("bash -c 'sleep 0.1 & disown'; sleep 0.5")
    assert "Z" not in opened.shell("ps -e -o stat=")


def test_ports_are_forwarded_and_labelled(opened: Workplace) -> None:
    said = opened.call("read-configuration", "--include-merged-configuration")
    assert said.returncode == 0, said.stderr
    merged = json.loads(said.stdout)["mergedConfiguration"]
    assert merged["forwardPorts"] == [8888, 6006]
    assert merged["portsAttributes"]["8888"]["label"] == "JupyterLab"
    assert merged["portsAttributes"]["6006"]["label"] == "TensorBoard"


def test_a_workspace_that_can_be_written_is_not_complained_about(opened: Workplace) -> None:
    done = opened.try_up()
    assert COMPLAINT not in done.stdout + done.stderr
