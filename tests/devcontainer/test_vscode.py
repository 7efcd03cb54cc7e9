"""VS Code's web build, run in a dev container and opened in Chromium: a file, and a terminal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.devcontainer.npm import CODE_SERVER, NODE_COPY, install_vscode
from tests.devcontainer.workplace import Workplace, give, init
from tests.needs import need_tools
from tests.peers.project import REPOSITORY
from tests.peers.registries import free_port
from wheelyard.system.tools import find_tool

PAGE = Path(__file__).with_name("vscode.mjs")
PASSWORD = "a-password-of-this-test"
PATIENCE = 300  # seconds
THERE = Path("/opt/code-server")  # in the container, read-only
DATA = "~/.local/share/code-server"
OPTIONS = (
    "--auth=password", "--disable-telemetry", "--disable-update-check",
    "--disable-workspace-trust", "--disable-getting-started-override",
)  # fmt: skip
# For a picture with nothing but the file and the terminal, whose text the page can be asked for.
QUIET = {
    "chat.disableAIFeatures": True,
    "editor.minimap.enabled": False,
    "git.terminalAuthentication": False,
    "terminal.integrated.gpuAcceleration": "off",
    "terminal.integrated.initialHint": False,
    "workbench.colorTheme": "Default Light Modern",
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "workbench.startupEditor": "none",
}
# Without an =, which separates what is typed from what it prints.
TYPED = (
    "python -c 'import torch; print(torch.__version__)'=2.3.1",
    "selfcheck versions libraries | tail -n 2=passed",
    "python train.py --epochs 3=epoch 2",
)


@pytest.fixture(scope="module")
def server(scratch: Path) -> Path:
    made = scratch / "code-server"
    install_vscode(made)
    return made


def open_template(place: Workplace, server: Path) -> None:
    """Start the container of a project from the template, with VS Code's server mounted."""
    shutil.copytree(REPOSITORY / "devcontainer/template", place.project, dirs_exist_ok=True)
    init(place)
    config = place.read()
    # The engine has no bridge, so the container uses our network.
    mounted = [f"--volume={server}:{THERE}:ro", "--network=host", "--hostname=devcontainer"]
    place.write(config | {"runArgs": [*config["runArgs"], *mounted]})
    give(place)
    place.up()


def serve(place: Workplace) -> str:
    """Start the server in the container, with the editor's settings that the image names."""
    said = place.call("read-configuration", "--include-merged-configuration")
    parts = json.loads(said.stdout)["mergedConfiguration"]["customizations"]["vscode"]
    settings = {name: value for part in parts for name, value in part.get("settings", {}).items()}
    (place.project / "settings.json").write_text(json.dumps(settings | QUIET))
    place.shell(f"mkdir -p {DATA}/User && mv settings.json {DATA}/User/")
    port = free_port()
    program = f"{THERE / NODE_COPY} {THERE / CODE_SERVER}/out/node/entry.js {' '.join(OPTIONS)}"
    command = f"PASSWORD={PASSWORD} nohup {program} --bind-addr=127.0.0.1:{port}"
    place.shell(f"{command} >/tmp/code.log 2>&1 & echo $! >/tmp/code.pid")
    ready = f"until (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>&-; do sleep 0.2; done"
    place.shell(f"timeout 60 bash -c {ready!r} || {{ cat /tmp/code.log; exit 1; }}")
    return f"http://127.0.0.1:{port}/?folder=/workspaces/{place.project.name}"


def test_a_terminal_and_a_file_in_vscode(server: Path, place: Workplace, tmp_path: Path) -> None:
    """The terminal is the container's user's, with its environment; the training runs in it.

    The picture goes to $WHEELYARD_SCREENSHOTS; README and docs/devcontainer.md have it.
    """
    need_tools("chromium")
    open_template(place, server)
    pictures = Path(os.environ.get("WHEELYARD_SCREENSHOTS", tmp_path))
    shown = subprocess.run(
        [place.cli / NODE_COPY, PAGE, place.cli, str(find_tool("chromium")), serve(place),
         PASSWORD, pictures / "vscode.png", "train.py", *TYPED],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    place.shell("kill $(cat /tmp/code.pid)")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("dev@devcontainer:/workspaces/project$ python -c")
    assert lines[1].startswith("2.3.1+")
    assert [line for line in lines if " 0 failed, " in line]
    losses = [float(line.rpartition(" ")[2]) for line in lines if line.startswith("epoch ")]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 3
    assert (pictures / "vscode.png").read_bytes().startswith(b"\x89PNG")
