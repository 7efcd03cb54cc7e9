"""Places where a user starts an image's programs: an engine's containers, or a chroot.

Everything is started as a person would: by the image's own entry point, with a folder mounted at
/workspace, and the stories at /stories.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tests.engines.daemons import temporary_folder
from tests.engines.podman import HANDED_OUT, LIMITS, rootless
from tests.image.box import SHM_SIZE
from tests.image.layout import BuiltImage
from tests.image.loadable import loadable
from tests.use.users import OUTSIDE, User, hand_over
from wheelyard.console.progress import QuietReporter
from wheelyard.engines.load import load
from wheelyard.oci.unpack import make_mount_points, unpack
from wheelyard.verify.places import enter_command

if TYPE_CHECKING:
    from docker import DockerClient

STORIES = Path(__file__).parent / "stories"
TIMEOUT = 900
CHROOT = "chroot"
# How this machine reaches a package index; an engine's containers learn it from nobody else.
CLIENT = (
    "PIP_CERT", "PIP_DEFAULT_TIMEOUT", "PIP_INDEX_URL", "SSL_CERT_FILE", "UV_DEFAULT_INDEX",
    "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
Result = subprocess.CompletedProcess[str]


class Place(Protocol):
    """One image somewhere."""

    @property
    def version(self) -> str:
        """What runs the image, as the record shows it."""

    def run(
        self, user: User, command: Sequence[str], *, network: bool = False, loads_code: bool = False
    ) -> Result:
        """Run a program in a new folder of the user's."""


@dataclass(frozen=True, slots=True)
class Containers:
    """An image in an engine that is driven by `docker` or `podman`."""

    engine: str
    version: str
    image: BuiltImage
    reference: str
    scratch: Path
    environment: dict[str, str]
    limits: tuple[str, ...] = ()

    def run(
        self, user: User, command: Sequence[str], *, network: bool = False, loads_code: bool = False
    ) -> Result:
        with self.workspace(user) as folder:
            options = self.options(user, folder, network=network, loads_code=loads_code)
            return self.call("run", "--rm", *options, self.reference, *command)

    def options(
        self, user: User, folder: Path, *, network: bool = False, loads_code: bool = False
    ) -> list[str]:
        """How a container of the user's is started."""
        mounts = [f"{self.scratch}/stories:/stories:ro", f"{folder}:/workspace"]
        return [
            f"--shm-size={SHM_SIZE}",
            *self.limits,
            *user.fitting(loads_code=loads_code),
            *(f"--volume={mount}" for mount in mounts),
            *(network_options() if network else ["--network=none"]),
        ]

    def call(self, *arguments: str) -> Result:
        """Run the engine's command line."""
        return subprocess.run(
            [self.engine, *arguments],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=self.environment,
            timeout=TIMEOUT,
        )

    @contextmanager
    def container(
        self, user: User, command: Sequence[str], *options: str, network: bool = False
    ) -> Iterator[str]:
        """A container that runs until the context ends."""
        with self.workspace(user) as folder:
            given = [*self.options(user, folder, network=network), *options]
            started = self.call("run", "--detach", *given, self.reference, *command)
            assert started.returncode == 0, started.stdout
            name = started.stdout.split()[-1]
            try:
                yield name
            finally:
                self.call("rm", "--force", name)

    @contextmanager
    def workspace(self, user: User) -> Iterator[Path]:
        """A new folder that belongs to whom the user says, with a repository of yet another one."""
        folder = Path(tempfile.mkdtemp(prefix="work-", dir=self.scratch))
        make_repository(folder)
        owner, group, mode = user.folder
        hand_over(folder, self.outside(user, owner), self.outside(user, group), mode)
        hand_over(folder / ".git", 0, 0, 0o755)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # an interrupted container may write on

    def outside(self, user: User, number: int) -> int:
        """The id on this machine of a user or group in the container."""
        if self.engine == "docker" or "--userns=keep-id" in user.options:
            return number
        return OUTSIDE if number == 0 else HANDED_OUT[0] + number - 1


def make_repository(folder: Path) -> None:
    """A git repository with one commit."""
    (folder / "committed.txt").write_text("committed\n")
    for command in (
        ["init", "--quiet"],
        ["add", "committed.txt"],
        ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "--message=One"],
    ):
        subprocess.run(["git", "-C", folder, *command], check=True)


def network_options() -> list[str]:
    """A container that asks the index that this machine asks, as this machine does."""
    given = [name for name in CLIENT if name in os.environ]
    certificates = {os.environ[name] for name in ("PIP_CERT", "SSL_CERT_FILE") if name in given}
    mounts = [f"--volume={path}:{path}:ro" for path in sorted(certificates)]
    return ["--network=host", *mounts, *(f"--env={name}={os.environ[name]}" for name in given)]


@contextmanager
def in_docker(image: BuiltImage, client: DockerClient, parent: str | None) -> Iterator[Containers]:
    """The image in Docker, alone."""
    known = {found.id for found in client.images.list()}
    blobs = image.dist / "blobs" / "sha256"
    (loaded,) = load(client, blobs, [loadable(image)], QuietReporter(None))
    version = str(client.version()["Version"])
    try:
        with stories(parent) as scratch:
            yield Containers("docker", version, image, loaded.id, scratch, dict(os.environ))
    finally:
        # Of a run that was interrupted; `--rm` waits for its end.
        for left in client.containers.list(filters={"ancestor": loaded.id}):
            left.remove(force=True)
        if loaded.id not in known:
            client.images.remove(loaded.id, force=True)


@contextmanager
def in_podman(image: BuiltImage, parent: str | None) -> Iterator[Containers]:
    """The image in the podman of an ordinary user."""
    with temporary_folder(parent) as folder, temporary_folder() as state:
        storage, layout = rootless(folder, state, image.dist, OUTSIDE)
        name = storage.take(layout, image.tags[0])
        with storage.service() as address, stories(parent) as scratch:
            environment = {**os.environ, "CONTAINER_HOST": address}
            version = storage.podman("version", "--format={{.Client.Version}}").strip()
            version = f"{version}, rootless"
            yield Containers("podman", version, image, name, scratch, environment, (LIMITS,))


@contextmanager
def stories(parent: str | None) -> Iterator[Path]:
    """A folder where everybody may read the stories."""
    with temporary_folder(parent) as scratch:
        scratch.chmod(0o755)
        shutil.copytree(STORIES, scratch / "stories", ignore=shutil.ignore_patterns("__*"))
        for path in (scratch / "stories").rglob("*"):
            path.chmod(0o644)
        yield scratch


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An image's files in a folder, entered by chroot with what an engine would set."""

    version: str
    image: BuiltImage
    root: Path

    def run(
        self, user: User, command: Sequence[str], *, network: bool = False, loads_code: bool = False
    ) -> Result:
        ids, _, groups = user.chroot.partition(",")
        uid = int(ids.partition(":")[0])
        workspace = self.root / "workspace"
        workspace.mkdir()
        hand_over(workspace, *user.folder)
        homes = {0: "/root", 1000: "/home/dev"}
        values = self.image.environment | {"HOME": homes.get(uid, "/")}
        given = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in values.items())]
        started = [*given, *self.image.settings["Entrypoint"], *command]
        shell = ["/bin/sh", "-c", 'cd /workspace && exec "$@"', "sh", *started]
        try:
            return subprocess.run(
                enter_command(self.root, ids, groups, shell),
                check=False,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=TIMEOUT,
            )
        finally:
            shutil.rmtree(workspace)


@contextmanager
def in_chroot(image: BuiltImage, parent: str | None) -> Iterator[Unpacked]:
    """The image's files in a folder that is removed afterwards."""
    with temporary_folder(parent) as folder:
        root = folder / "root"
        root.mkdir()
        unpack([image.blob(digest) for digest in image.layers], root)
        make_mount_points(root)
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n")  # engines write one
        shutil.copytree(STORIES, root / "stories", ignore=shutil.ignore_patterns("__*"))
        shutil.rmtree(root / "workspace")
        yield Unpacked("", image, root)
