"""A place where an image's programs run: a container, or a chroot into its unpacked files."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import testinfra
from testinfra.backend.base import CommandResult
from testinfra.backend.chroot import ChrootBackend
from testinfra.host import Host

from tests.engines.daemons import can_start, temporary_folder
from tests.engines.podman import LIMITS, Storage
from tests.image.layout import BuiltImage
from tests.image.loadable import loadable
from wheelyard.engines.containers import passes_gpus
from wheelyard.engines.docker import connect
from wheelyard.engines.load import load
from wheelyard.errors import EngineError
from wheelyard.oci.unpack import make_mount_points, unpack
from wheelyard.verify.places import enter_command

if TYPE_CHECKING:
    from docker import DockerClient

    from wheelyard.console.tasks import Reporter

BACKENDS = ("docker", "podman", "chroot")
SHM_SIZE = "512m"
GPUS: list[Any] = [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]


@dataclass(frozen=True)
class Box:
    """One image, ready to run commands in."""

    image: BuiltImage
    backend: str  # one of BACKENDS
    dev: Host  # the image's own user
    root: Host
    put: Callable[[str, bytes], None]  # absolute path, content; the file belongs to `dev`

    def python(self, program: str, *, user: Host | None = None) -> Any:
        """Run a program with the image's Python; it prints one JSON value, which is returned."""
        host = user or self.dev
        result = host.run("python -c %s", program)
        assert result.rc == 0, f"{result.stderr}\n{result.stdout}"
        return json.loads(result.stdout)

    def lines(self, command: str, *arguments: str, user: Host | None = None) -> list[str]:
        """Run a command that must succeed; the lines it prints."""
        result = (user or self.dev).run(command, *arguments)
        assert result.rc == 0, f"{command}: {result.stderr}\n{result.stdout}"
        return list(result.stdout.splitlines())


@contextmanager
def docker_box(image: BuiltImage, client: DockerClient, reporter: Reporter) -> Iterator[Box]:
    """The image in an engine, in a container without a network that waits to be told what to do."""
    (loaded,) = load(client, image.dist / "blobs" / "sha256", [loadable(image)], reporter)
    container = client.containers.run(
        loaded.id,
        ["sleep", "infinity"],
        detach=True,
        network_mode="none",
        shm_size=SHM_SIZE,
        device_requests=GPUS if has_gpus(client) else [],
    )

    def put(path: str, content: bytes) -> None:
        assert container.put_archive(str(Path(path).parent), tar_of(Path(path).name, content))

    try:
        dev = testinfra.get_host(f"docker://{container.id}")
        root = testinfra.get_host(f"docker://root@{container.id}")
        yield Box(image, "docker", dev, root, put)
    finally:
        container.remove(force=True)


@contextmanager
def podman_box(image: BuiltImage, parent: str | None) -> Iterator[Box]:
    """The image in a podman that has nothing else, in such a container."""
    run = ["podman", "run", "--detach", "--network=none", LIMITS, f"--shm-size={SHM_SIZE}"]
    patched = pytest.MonkeyPatch.context()
    with temporary_folder(parent) as folder, temporary_folder() as state, patched as patch:
        storage = Storage(folder, state)
        name = storage.take(image.dist, image.tags[0])
        with storage.service() as address:
            patch.setenv("CONTAINER_HOST", address)  # testinfra calls `podman exec`
            container = call([*run, name, "sleep", "infinity"]).decode().strip()

            def put(path: str, content: bytes) -> None:
                folder = str(Path(path).parent)
                unpack = ["tar", "--extract", "--same-owner", f"--directory={folder}"]
                inside = ["podman", "exec", "--interactive", "--user=0", container, *unpack]
                call(inside, tar_of(Path(path).name, content))

            dev = testinfra.get_host(f"podman://{container}")
            root = testinfra.get_host(f"podman://root@{container}")
            yield Box(image, "podman", dev, root, put)


def call(command: list[str], given: bytes = b"") -> bytes:
    """What a program that must succeed prints."""
    done = subprocess.run(command, check=False, input=given, capture_output=True)
    assert done.returncode == 0, f"{command}: {done.stderr.decode('utf-8', 'replace')}"
    return done.stdout


def has_gpus(client: DockerClient) -> bool:
    """True when the engine was set up for NVIDIA's GPUs."""
    return passes_gpus(client)


def tar_of(name: str, content: bytes) -> bytes:
    """A tar with one file of user and group 1000."""
    info = tarfile.TarInfo(name)
    info.size, info.uid, info.gid, info.mode = len(content), 1000, 1000, 0o644
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@dataclass(frozen=True)
class Account:
    """Who runs a command in a chroot."""

    ids: str  # "1000:1000"
    groups: str  # further groups, "900"
    home: str


class UnpackedImage(ChrootBackend):  # type: ignore[misc]
    """testinfra's chroot backend with the image's user, environment and folder."""

    def __init__(self, root: Path, image: BuiltImage, account: Account) -> None:
        super().__init__(str(root))
        self.image, self.account = image, account

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        wanted = self.get_command(command, *args)
        values = self.image.environment | {"HOME": self.account.home}
        assignments = [f"{name}={value}" for name, value in values.items()]
        folder = self.image.settings["WorkingDir"] or "/"
        inside = shlex.join(["/usr/bin/env", "-i", *assignments, "/bin/sh", "-c", wanted])
        shell = ["/bin/sh", "-c", f"cd {shlex.quote(folder)} && {inside}"]
        entered = enter_command(Path(self.name), self.account.ids, self.account.groups, shell)
        outcome = self.run_local(shlex.join(entered))
        outcome.command = self.encode(wanted)
        return outcome


@contextmanager
def chroot_box(image: BuiltImage, parent: str | None) -> Iterator[Box]:
    """The image's files in a folder that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="wheelyard-unpacked-", dir=parent))
    root = folder / "root"
    root.mkdir()

    def put(path: str, content: bytes) -> None:
        target = root / path.lstrip("/")
        target.write_bytes(content)
        os.chown(target, 1000, 1000)

    try:
        unpack([image.blob(digest) for digest in image.layers], root)
        make_mount_points(root)
        dev = Host(UnpackedImage(root, image, Account("1000:1000", "900", "/home/dev")))
        superuser = Host(UnpackedImage(root, image, Account("0:0", "0", "/root")))
        yield Box(image, "chroot", dev, superuser, put)
    finally:
        shutil.rmtree(folder)


def possible_backends() -> tuple[str, ...]:
    """The ways to run an image's programs on this machine, as far as it shows."""
    try:
        engine = can_start() or connect() is not None
    except EngineError:
        engine = False
    docker = engine and shutil.which("docker") is not None
    is_root = os.geteuid() == 0
    there = {
        "docker": docker,
        "podman": is_root and all(map(shutil.which, ("podman", "runc", "skopeo", "unshare"))),
        "chroot": is_root,
    }
    return tuple(name for name in BACKENDS if there[name])
