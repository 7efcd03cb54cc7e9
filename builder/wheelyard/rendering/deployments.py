"""Files that run an image on servers: compose, Kubernetes, podman, Apptainer. Pure.

Sources: the Compose specification; Kubernetes' API; podman-systemd.unit(5); Apptainer's definition
files.
"""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wheelyard.architecture import DEFAULT
from wheelyard.errors import UsageError

if TYPE_CHECKING:
    from jinja2 import Environment

JUPYTER_FILE = "jupyter_server_config.py"
JUPYTER_PORT = 8888
# Kind -> the template, and the file's name; a Deployment contains its Jupyter settings.
KINDS = {
    "compose": ("compose.yaml", "compose.yaml"),
    "deployment": ("deployment.yaml", "deployment.yaml"),
    "job": ("job.yaml", "job.yaml"),
    "quadlet": ("quadlet.container", "{name}.container"),
    "apptainer": ("apptainer.def", "{name}.def"),
}
_ON_KUBERNETES = ("deployment", "job")
# How an image need not be pulled whole, by where it is pulled; Docker and Apptainer always do.
_UNFINISHED = (
    "if it was pushed with --compression estargz it starts before it has arrived on nodes whose "
    "containerd has the stargz snapshotter (k3s: --snapshotter=stargz); GKE's image streaming "
    "(--enable-image-streaming) takes any packing"
)
_LACKING = (
    "if it was pushed with --compression zstd podman 5 fetches only the files that it lacks, with "
    "enable_partial_images in storage.conf"
)
ARRIVAL = {"deployment": _UNFINISHED, "job": _UNFINISHED, "quadlet": _LACKING}
VOLUME, IMAGE = "volume", "image"  # of the container's own; what the image has there
_CLAIM, _FILES = "pvc:", "configmap:"  # of a cluster, before a name
_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,50}[a-z0-9])?")  # RFC 1123, with room for a pod's suffix
_OBJECT = re.compile(r"[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?")  # RFC 1123, subdomain
_TITLE = re.compile(r"[A-Za-z0-9 .,+()_-]{1,300}")  # nothing that any of the readers interprets


@dataclass(frozen=True, slots=True)
class Deployment:
    """An image and what it should do."""

    kind: str  # a key of KINDS
    name: str  # of service, unit, container
    title: str
    tag: str  # for people
    image: str  # by its digest, if that is known
    local: bool  # only an engine that loaded it knows the image
    command: tuple[str, ...]
    jupyter: bool  # the command is JupyterLab
    port: int | None  # that the command listens on
    listen: str  # the host's address that the port is published on
    with_gpus: bool
    gpus: int | None  # how many; None: all of a machine's, one on Kubernetes
    architecture: str = DEFAULT.name
    workspace: str = VOLUME  # content of /workspace: VOLUME, IMAGE, a folder, pvc:, configmap:

    @property
    def published(self) -> str:
        """`ADDRESS:PORT:PORT`, as Docker and podman write it."""
        host = f"[{self.listen}]" if ":" in self.listen else self.listen
        return f"{host}:{self.port}:{self.port}"

    @property
    def folder(self) -> str | None:
        """The host's folder at /workspace; None if something else is mounted there."""
        named = self.workspace in (VOLUME, IMAGE) or self.workspace.startswith((_CLAIM, _FILES))
        return None if named else self.workspace

    @property
    def claim(self) -> str | None:
        """The cluster's claim at /workspace."""
        return self.workspace.removeprefix(_CLAIM) if self.workspace.startswith(_CLAIM) else None

    @property
    def files(self) -> str | None:
        """The cluster's ConfigMap at /workspace."""
        return self.workspace.removeprefix(_FILES) if self.workspace.startswith(_FILES) else None

    @property
    def devices(self) -> list[str]:
        """The GPUs by their CDI names."""
        if not self.with_gpus:
            return []
        return ["all"] if self.gpus is None else [str(at) for at in range(self.gpus)]


def jupyter_command(kind: str, listen: str) -> tuple[str, ...]:
    """Return the JupyterLab command; Apptainer uses the host's network, others their own."""
    address = listen if kind == "apptainer" else "0.0.0.0"  # noqa: S104 - published on `listen`
    return ("jupyter", "lab", "--no-browser", f"--ip={address}", f"--port={JUPYTER_PORT}")


def _check_deployment(deployment: Deployment) -> None:
    """Raise UsageError for what cannot be written, or would not do what was requested."""
    if not _LABEL.fullmatch(deployment.name):
        raise UsageError(f"--name {deployment.name}: lower-case letters, digits and -, at most 52")
    try:
        address = ipaddress.ip_address(deployment.listen)
    except ValueError:
        raise UsageError(f"--listen {deployment.listen}: write an IP address") from None
    if getattr(address, "scope_id", None) is not None:
        raise UsageError(f"--listen {deployment.listen}: write it without a zone")
    _check_image(deployment)
    _check_workspace(deployment)
    if any(not word.isprintable() for word in deployment.command):
        raise UsageError("--command: a word contains a line break or another control character")
    if deployment.kind == "quadlet" and "" in deployment.command:
        # Seen with podman 5.4.
        raise UsageError("--command: quadlet drops an empty word and every word after it")
    if deployment.kind == "quadlet" and ";" in deployment.command:
        # podman's generator writes it without quotes, and systemd begins a command of the host's.
        raise UsageError("--command: quadlet cannot pass on the word ; (write a script)")
    if deployment.kind == "apptainer" and any("{{" in word for word in deployment.command):
        raise UsageError("--command: Apptainer takes text in {{ }} for a build argument")
    if deployment.gpus is not None and deployment.kind == "apptainer":
        raise UsageError("Apptainer passes on every GPU; set  CUDA_VISIBLE_DEVICES where it runs")
    if deployment.gpus is not None and not deployment.with_gpus:
        raise UsageError(f"{deployment.tag} is an image without CUDA; leave out --gpus")


def _check_workspace(deployment: Deployment) -> None:
    """Refuse what this kind cannot mount at /workspace."""
    said, kind = f"--workspace {deployment.workspace}", deployment.kind
    cluster = deployment.claim or deployment.files
    if deployment.workspace.startswith((_CLAIM, _FILES)):
        if kind not in _ON_KUBERNETES:
            raise UsageError(f"{said} is for clusters; for {kind} give a folder, volume or image")
        if not _OBJECT.fullmatch(cluster or ""):
            raise UsageError(f"{said}: write the object's name, such as pvc:datasets")
    if deployment.folder is None:
        return
    if kind in _ON_KUBERNETES:
        raise UsageError(
            f"{said} is a folder of this machine; a cluster takes pvc:NAME, configmap:NAME, "
            "volume, or an image that has the code (image)"
        )
    if kind == "apptainer":
        raise UsageError(f"{said}: Apptainer mounts the folder that it is started in; leave it out")
    if not deployment.folder.startswith(("/", "./")) or ":" in deployment.folder:
        raise UsageError(f"{said}: write volume, image, or a folder as /path or ./path, without :")


def _check_image(deployment: Deployment) -> None:
    """Refuse an image name that would be more than a name in one of the files."""
    from wheelyard.oci.documents import is_reference  # here: `--help` answers without it

    for name in (deployment.image, deployment.tag):
        if not is_reference(name):
            raise UsageError(f"{name!a} is not an image's name, and is not written into a file")
    if not _TITLE.fullmatch(deployment.title):
        raise UsageError(f"{deployment.title!a} is not an image's title, so it is not written")


def render_deployment(environment: Environment, deployment: Deployment) -> dict[str, str]:
    """Return file name -> text; with JupyterLab, also the settings that it needs."""
    from wheelyard.contract.paths import GID, UID

    _check_deployment(deployment)
    environment.filters |= {
        "compose": _compose_text,
        "yaml": _yaml_text,
        "yaml_words": _yaml_words,
        "systemd": _systemd_text,
        "literal_words": _literal_words,
        "systemd_words": _systemd_words,
        "shell_words": shlex.join,
    }
    names = {"d": deployment, "jupyter_file": JUPYTER_FILE, "uid": UID, "gid": GID}
    template, name = KINDS[deployment.kind]
    text = environment.get_template(f"deploy/{template}.j2").render(**names)
    files = {name.format(name=deployment.name): text}
    if deployment.jupyter and deployment.kind not in _ON_KUBERNETES:
        settings = environment.get_template(f"deploy/{JUPYTER_FILE}.j2")
        files[JUPYTER_FILE] = settings.render(**names)
    return files


def _yaml_text(text: str) -> str:
    """Quote a text with double quotes, so that it stays a text (`on`, `1e3`)."""
    if not text.isprintable():
        raise UsageError(f"{text!a} cannot be written into a file")
    return json.dumps(text, ensure_ascii=False)


def _yaml_words(words: Iterable[str]) -> str:
    """Write a list of texts on one line; JSON does not suffice: YAML has no surrogate pairs."""
    return f"[{', '.join(map(_yaml_text, words))}]"


def _compose_text(text: str) -> str:
    """Quote a text for compose, which expands `${NAME}` everywhere."""
    return _yaml_text(text.replace("$", "$$"))


def _literal_words(words: Iterable[str]) -> list[str]:
    """Write a list in which compose and Kubernetes expand nothing: `$` is `$$` to both."""
    return [word.replace("$", "$$") for word in words]


def _systemd_text(text: str) -> str:
    """Write a value of a unit: one line, no specifier, no continuation."""
    if not text.isprintable() or "\\" in text or text != text.strip():
        raise UsageError(f"{text!a} cannot be written into a unit")
    return text.replace("%", "%%")


def _systemd_words(words: Sequence[str]) -> str:
    """Quote a line of a unit, without specifiers and variables (systemd.service(5))."""
    return " ".join(map(_systemd_word, words))


def _systemd_word(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[A-Za-z0-9_@%+=:,./$-]+", escaped) else f'"{escaped}"'
