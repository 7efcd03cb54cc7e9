"""Where an image's programs run: in a container or, without an engine, in a chroot."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.architecture import ARCHITECTURES, DEFAULT, Architecture
from wheelyard.contract.paths import GID, UID, USER
from wheelyard.errors import EngineError, ToolMissingError, VerifyError
from wheelyard.images.assemble.base import emulator
from wheelyard.images.build.loading import loadable
from wheelyard.images.build.report import unpacked_sizes
from wheelyard.oci.unpack import make_mount_points, unpack
from wheelyard.selfcheck.gpu.driver import NoDriverError, read_driver
from wheelyard.system.confine import confined
from wheelyard.system.emulate import emulated
from wheelyard.system.subprocesses import run

if TYPE_CHECKING:
    from docker import DockerClient

    from wheelyard.console.tasks import Reporter
    from wheelyard.oci.archive import LoadableImage
    from wheelyard.oci.layout import Layout

_TIMEOUT = 3600.0  # seconds for all checks of an image


@dataclass(frozen=True, slots=True)
class Answer:
    """The output of a program in an image."""

    code: int
    stdout: str
    stderr: str


Run = Callable[[Sequence[str], Callable[[str], None]], Answer]  # command, and each error line


@dataclass(frozen=True, slots=True)
class Place:
    """A way to run images on this machine."""

    backend: str  # "docker" or "chroot"
    gpu: bool  # containers get the GPUs
    machine: str = ""  # its name, driver and GPUs: a check's result is valid only for these
    client: DockerClient | None = None
    host: str = ""  # its name alone


def find_place(wanted: str, reporter: Reporter) -> Place:
    """Return the engine that answers, else a chroot; `wanted` is "auto", "docker" or "chroot".

    Raises EngineError or ToolMissingError if the requested way, or every way, is unavailable.
    """
    if wanted != "chroot":
        from wheelyard.engines.containers import passes_gpus
        from wheelyard.engines.docker import connect

        try:
            client = connect()
        except EngineError as error:
            if wanted == "docker":
                raise
            reporter.warn(f"the engine is not used: {error}")
            client = None
        if client is not None:
            name = str(client.info().get("Name", ""))
            return Place("docker", passes_gpus(client), _machine_of(name), client, name)
        if wanted == "docker":
            raise EngineError("no Docker Engine answers; start one, or use --backend chroot")
    if os.geteuid() != 0:
        raise ToolMissingError(
            "images run in a Docker Engine, which does not answer, or in a chroot, which "
            "needs root: start an engine, or run this as root"
        )
    name = platform.node()
    return Place("chroot", gpu=False, machine=_machine_of(name), host=name)


def _machine_of(name: str) -> str:
    """Describe a machine for its records: its name, the driver and the GPUs' serial numbers."""
    try:
        driver = read_driver()
    except NoDriverError:
        return name
    return " ".join((name, driver.version, *(gpu.uuid or gpu.name for gpu in driver.gpus)))


@contextmanager
def opened(
    place: Place, manifest: str, tags: Sequence[str], layout: Layout, folder: Path,
    reporter: Reporter,
) -> Iterator[Run]:  # fmt: skip
    """Yield the image of `layout` with this manifest digest, ready to run commands in."""
    content, config = layout.read_image(manifest)
    if place.client is not None:
        image = loadable(layout, manifest, tags, unpacked_sizes(layout.folder))
        yield _in_engine(place.client, place.gpu, image, layout, reporter)
        return
    # Only for root: meanwhile, the image's setuid programs are files on this machine.
    private = Path(tempfile.mkdtemp(prefix="verify-", dir=_made(folder)))
    root = private / "root"
    try:
        root.mkdir()
        root.chmod(0o755)
        blobs = [layout.blob(layer["digest"]) for layer in content["layers"]]
        with reporter.task("unpack", len(blobs), "items") as task:
            unpack(blobs, root, task.advance)
        make_mount_points(root)
        foreign = ARCHITECTURES.get(config["architecture"], DEFAULT)
        yield _in_chroot(root, config["config"], foreign, emulator(foreign.name, reporter))
    finally:
        shutil.rmtree(private)


def _in_engine(
    client: DockerClient, gpu: bool, image: LoadableImage, layout: Layout, reporter: Reporter
) -> Run:
    from wheelyard.engines.containers import run_once
    from wheelyard.engines.load import load

    (loaded,) = load(client, layout.blobs, [image], reporter)

    def work(argv: Sequence[str], on_line: Callable[[str], None]) -> Answer:
        done = run_once(client, loaded.id, argv, gpus=gpu, timeout=_TIMEOUT, on_error_line=on_line)
        return Answer(*done)

    return work


def _in_chroot(
    root: Path, settings: Mapping[str, Any], architecture: Architecture, qemu: str | None
) -> Run:
    def work(argv: Sequence[str], on_line: Callable[[str], None]) -> Answer:
        if qemu is None:
            command = chroot_command(root, settings, argv)
        else:  # which reads the environment of what it runs
            words = ("/usr/bin/env", f"QEMU_CPU={architecture.qemu_cpu}", *argv)
            command = emulated(chroot_command(root, settings, words), qemu, architecture.elf)
        done = run(command, error=None, timeout=_TIMEOUT, on_error_line=on_line)
        return Answer(done.returncode, done.stdout, done.stderr)

    return work


def chroot_command(root: Path, settings: Mapping[str, Any], argv: Sequence[str]) -> list[str]:
    """Return the argument list that runs `argv` as the image's user, in its environment."""
    environment = [*settings["Env"], f"HOME=/home/{USER}"]
    folder = settings.get("WorkingDir") or "/"
    inside = ["/usr/bin/env", "-i", "-C", folder, *environment, *argv]
    return enter_command(root, f"{UID}:{UID}", str(GID), inside)


def enter_command(root: Path, user: str, groups: str, argv: Sequence[str]) -> list[str]:
    """Return the argument list that runs `argv` in `root`, isolated; only for root.

    `user` is "UID:GID", `groups` further group ids joined by commas. The first of `argv` is a path.
    """
    uid, _, gid = user.partition(":")
    others = [int(group) for group in groups.split(",")]
    return confined(root, argv, ids=(int(uid), int(gid)), groups=others, machine=True)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VerifyError(
            f"{folder}: {error.strerror}; choose another folder with --unpack-dir"
        ) from error
    return folder
