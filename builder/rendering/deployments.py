"""How a chosen image is run on servers: files for compose, Kubernetes, podman, Apptainer. Pure.

Sources: the Compose specification; Kubernetes' API; podman-systemd.unit(5); Apptainer's
definition files.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import UsageError

if TYPE_CHECKING:
    from jinja2 import Environment

JUPYTER_FILE = "jupyter_server_config.py"
JUPYTER_PORT = 8888
# Kind -> the template, and the file's name; a Deployment brings its Jupyter settings along.
KINDS = {
    "compose": ("compose.yaml", "compose.yaml"),
    "deployment": ("deployment.yaml", "deployment.yaml"),
    "job": ("job.yaml", "job.yaml"),
    "quadlet": ("quadlet.container", "{name}.container"),
    "apptainer": ("apptainer.def", "{name}.def"),
}
ON_KUBERNETES = ("deployment", "job")
_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,50}[a-z0-9])?")  # RFC 1123, with room for a pod's suffix


@dataclass(frozen=True, slots=True)
class Deployment:
    """An image, and what it is to do."""

    kind: str  # a key of KINDS
    name: str  # of service, unit, container
    title: str
    tag: str  # for people
    image: str  # by its digest, where that is known
    local: bool  # only an engine that loaded it knows the image
    command: tuple[str, ...]
    jupyter: bool  # the command is JupyterLab
    port: int | None  # that the command listens on
    listen: str  # the host's address that the port is published on
    with_gpus: bool
    gpus: int | None  # how many; None: all of a machine's, one on Kubernetes

    @property
    def published(self) -> str:
        """`ADDRESS:PORT:PORT`, as Docker and podman have it."""
        host = f"[{self.listen}]" if ":" in self.listen else self.listen
        return f"{host}:{self.port}:{self.port}"

    @property
    def devices(self) -> list[str]:
        """The GPUs by their CDI names."""
        if not self.with_gpus:
            return []
        return ["all"] if self.gpus is None else [str(at) for at in range(self.gpus)]


def find_templates(project: Path) -> Path:
    """The templates of deployments: the project's, this checkout's, or what the wheel installed."""
    installed = Path(sysconfig.get_path("data"), "share/wheelyard")
    places = (project, Path(__file__).parents[2], installed)
    found = (place / "templates" for place in places if (place / "templates/deploy").is_dir())
    return next(found, project / "templates")


def jupyter_command(kind: str, listen: str) -> tuple[str, ...]:
    """JupyterLab; Apptainer's network is the host's, any other container has one of its own."""
    address = listen if kind == "apptainer" else "0.0.0.0"  # noqa: S104 - published on `listen`
    return ("jupyter", "lab", "--no-browser", f"--ip={address}", f"--port={JUPYTER_PORT}")


def check_deployment(deployment: Deployment) -> None:
    """Raise UsageError for what cannot be written down, or would not do what was asked."""
    if not _LABEL.fullmatch(deployment.name):
        raise UsageError(f"--name {deployment.name}: lower-case letters, digits and -, at most 52")
    try:
        ipaddress.ip_address(deployment.listen)
    except ValueError:
        raise UsageError(f"--listen {deployment.listen}: write an IP address") from None
    if any(not word.isprintable() for word in deployment.command):
        raise UsageError("--command: a word holds a line break or another control character")
    if deployment.kind == "quadlet" and "" in deployment.command:
        # Seen with podman 5.4.
        raise UsageError("--command: quadlet drops an empty word and every word behind it")
    if deployment.gpus is not None and deployment.kind == "apptainer":
        raise UsageError("Apptainer hands out every GPU; set CUDA_VISIBLE_DEVICES where it runs")
    if deployment.gpus is not None and not deployment.with_gpus:
        raise UsageError(f"{deployment.tag} is an image without CUDA; leave out --gpus")


def render_deployment(environment: Environment, deployment: Deployment) -> dict[str, str]:
    """File name -> text; with JupyterLab the settings that it needs beside it."""
    from builder.assemble.contract import GID, UID  # here: `--help` answers without it

    check_deployment(deployment)
    environment.filters |= {
        "compose_words": compose_words,
        "kubernetes_words": kubernetes_words,
        "systemd_words": systemd_words,
        "shell_words": shlex.join,
    }
    names = {"d": deployment, "jupyter_file": JUPYTER_FILE, "uid": UID, "gid": GID}
    template, name = KINDS[deployment.kind]
    text = environment.get_template(f"deploy/{template}.j2").render(**names)
    files = {name.format(name=deployment.name): text}
    if deployment.jupyter and deployment.kind not in ON_KUBERNETES:
        settings = environment.get_template(f"deploy/{JUPYTER_FILE}.j2")
        files[JUPYTER_FILE] = settings.render(**names)
    return files


def compose_words(words: Iterable[str]) -> list[str]:
    """Nothing is taken for a variable."""
    return [word.replace("$", "$$") for word in words]


def kubernetes_words(words: Iterable[str]) -> list[str]:
    """`$(NAME)` stays as it is written."""
    return [word.replace("$(", "$$(") for word in words]


def systemd_words(words: Sequence[str]) -> str:
    """One line of a unit: quoted, without specifiers and variables (systemd.service(5))."""
    return " ".join(map(_systemd_word, words))


def _systemd_word(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[\w@%+=:,./$-]+", escaped) else f'"{escaped}"'
