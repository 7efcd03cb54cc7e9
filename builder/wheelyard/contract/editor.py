"""What an editor needs to know about a devel image; in its label and in devcontainer.json. Pure.

Source: the dev container specification, and its reference CLI's behaviour (docs/devcontainer.md).
"""

from __future__ import annotations

from typing import Any

from wheelyard.contract.paths import USER, VENV

DEVELOPMENT = "devel"  # the flavour that editors open
PORTS = {8888: ("JupyterLab", "notify"), 6006: ("TensorBoard", "silent")}
EXTENSIONS = ("ms-python.python", "ms-python.debugpy", "ms-toolsai.jupyter", "charliermarsh.ruff")
SETTINGS = {
    "python.defaultInterpreterPath": f"/{VENV}/bin/python",
    "python.terminal.activateEnvironment": False,  # it is on PATH in every shell
    "terminal.integrated.defaultProfile.linux": "bash",
}


def ports_attributes() -> dict[str, dict[str, str]]:
    """Return each forwarded port's label, and the editor's action when something listens there."""
    return {
        str(port): {"label": label, "onAutoForward": action}
        for port, (label, action) in PORTS.items()
    }


def metadata(flavour: str) -> list[dict[str, Any]]:
    """Return the value of the label `devcontainer.metadata`, with which `{"image": ...}` suffices.

    `runArgs` and GPU requests have no effect there, so /dev/shm and GPUs are left to
    devcontainer.json.
    """
    if flavour != DEVELOPMENT:
        return [{"remoteUser": USER}]
    return [
        {
            "remoteUser": USER,
            "updateRemoteUserUID": True,
            "init": True,  # an editor replaces the entry point, and with it the image's own
            "capAdd": ["SYS_PTRACE"],  # gdb and debugpy attach to running processes
            "forwardPorts": list(PORTS),
            "portsAttributes": ports_attributes(),
            "customizations": {
                "vscode": {"extensions": list(EXTENSIONS), "settings": dict(SETTINGS)}
            },
        }
    ]
