"""Docker Engines for the tests: ended with us, whatever becomes of us, and without a trace.

An engine runs in a mount and a process namespace of its own. What it mounts is seen by nobody else,
and what it starts ends when it does; and it ends when the test run does, even when that is killed.
It keeps everything in one folder and leaves the host's network alone: a container has the host's
network or none, unless the engine is started in a network of its own (network.py), where it may
have its bridge.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.peers.island import HERE, Place
from wheelyard.engines.docker import connect
from wheelyard.errors import EngineError

if TYPE_CHECKING:
    from docker import DockerClient

# Mounts and processes of its own: what is mounted nobody else sees, and all ends with its parent.
ALONE = (
    "setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child",
)  # fmt: skip
NO_NETWORK = ("--iptables=false", "--ip6tables=false", "--bridge=none")
CLIENT = ("DOCKER_HOST", "DOCKER_CONFIG", "BUILDX_BUILDER")
START_SECONDS = 60
STOP_SECONDS = 30
# What the engine's root shows of the machine; its own files are only read. Under a chroot the
# machine's root would stay the namespace's, and be that of `docker exec` in every container.
ENTER = """\
root=$1 folder=$2; shift 2
mount --bind "$root" "$root"
mount --bind "$folder" "$root/mnt"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
for writable in run tmp var/tmp; do mount -t tmpfs tmpfs "$root/$writable"; done
mkdir "$root/run/machine"
mount -o remount,bind,ro "$root"
cd "$root"
pivot_root . run/machine
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine, and how programs reach it."""

    name: str
    client: DockerClient
    folder: Path
    environment: dict[str, str]  # DOCKER_HOST, and a client's configuration with buildx

    @property
    def client_settings(self) -> dict[str, str]:
        """The variables that point a client at this engine and a builder, and nothing else."""
        return {name: self.environment[name] for name in CLIENT if name in self.environment}


@dataclass(frozen=True, slots=True)
class Kind:
    """A Docker Engine: where its programs are, and its settings."""

    name: str
    root: Path | None = None  # the root file system it is started in; None: this machine's
    settings: Mapping[str, object] = field(default_factory=dict)  # dockerd's daemon.json


INSTALLED = Kind("installed")


def can_start() -> bool:
    """Whether this machine's own dockerd can be started."""
    return os.geteuid() == 0 and shutil.which("dockerd") is not None


def daemon_command(folder: str, *, bridged: bool = False) -> list[str]:
    """A dockerd that keeps everything below `folder`, and makes itself a bridge or none."""
    return [
        "dockerd",
        f"--config-file={folder}/daemon.json",
        f"--data-root={folder}/data",
        f"--exec-root={folder}/exec",
        f"--pidfile={folder}/docker.pid",
        f"--host=unix://{folder}/docker.sock",
        *([] if bridged else NO_NETWORK),
    ]


def start_command(kind: Kind, folder: Path, *, bridged: bool = False) -> list[str]:
    """The daemon in namespaces of its own; killed when who started it is gone."""
    if kind.root is None:
        return [*ALONE, "--mount-proc", *daemon_command(str(folder), bridged=bridged)]
    enter = ["sh", "-e", "-c", ENTER, "enter", str(kind.root), str(folder)]
    return [*ALONE, *enter, *daemon_command("/mnt", bridged=bridged)]


def address_of(folder: Path) -> str:
    """DOCKER_HOST of the engine that keeps its things in `folder`."""
    return f"unix://{folder}/docker.sock"


def client_environment(folder: Path) -> dict[str, str]:
    """This process's environment for programs that talk to the engine in `folder`."""
    others = ("DOCKER_CONTEXT", "BUILDX_BUILDER")
    chosen = {name: value for name, value in os.environ.items() if name not in others}
    return {**chosen, "DOCKER_HOST": address_of(folder)}


@contextmanager
def temporary_folder(parent: str | Path | None = None) -> Iterator[Path]:
    """A folder with a short name: a socket's path has at most 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="wheelyard-", dir=parent)).absolute()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def small_room(size: int) -> Iterator[Path]:
    """A folder with room for `size` bytes."""
    with temporary_folder() as folder:
        room = folder / "room"
        room.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", room], check=True)
        try:
            yield room
        finally:
            subprocess.run(["umount", "--lazy", room], check=True)


@contextmanager
def own_engine(folder: Path, kind: Kind = INSTALLED, place: Place = HERE) -> Iterator[DockerClient]:
    """A daemon that keeps everything in `folder`, ended together with its containers.

    On a place of its own it has a bridge, which gives its containers that network.
    """
    (folder / "daemon.json").write_text(json.dumps(dict(kind.settings)))
    command = start_command(kind, folder, bridged=place is not HERE)
    with (folder / "log").open("wb") as log:

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(command, stdout=log, stderr=log, process_group=0)

        daemon = place.call(start)
    try:
        client = wait_for(folder, daemon)
        yield client
        client.close()
    finally:
        end(daemon)


def output_of(client: DockerClient, image: str, argv: list[str] | None, **how: Any) -> bytes:
    """What a container printed, read after its end: Docker may follow a quick one to no output."""
    container = client.containers.create(image, argv, **how)
    try:
        container.start()
        code = container.wait()["StatusCode"]
        printed = bytes(container.logs(stderr=False))
        assert code == 0, container.logs().decode()
        return printed
    finally:
        container.remove(force=True)


def end(daemon: subprocess.Popen[bytes]) -> None:
    """Stop a daemon; `unshare` itself takes no SIGTERM, so its whole group gets it."""
    try:
        os.killpg(daemon.pid, signal.SIGTERM)
        daemon.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
    except ProcessLookupError:
        daemon.wait()


def wait_for(folder: Path, daemon: subprocess.Popen[bytes]) -> DockerClient:
    """The client of a daemon that was just started."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and daemon.poll() is None:
        try:
            client = connect({"DOCKER_HOST": address_of(folder)})
        except EngineError:
            time.sleep(0.2)
        else:
            assert client is not None
            return client
    tail = (folder / "log").read_text().splitlines()[-10:]
    pytest.fail("dockerd did not start:\n" + "\n".join(tail))
