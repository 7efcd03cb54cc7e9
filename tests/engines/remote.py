"""Builders beside the engine: two behind unix sockets, and one in a container of the engine's."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.engines import trixie
from tests.engines.daemons import ALONE, START_SECONDS, Engine, end
from tests.peers.island import Place
from wheelyard.settings import Settings

PROGRAMS = ("buildkitd", "buildctl")  # in no Debian release; BuildKit's own releases have them
CONTAINER_IMAGE = "localhost:1/buildkit:here"  # no registry has it: what the engine has is taken
CHUNK = 1 << 16
# moby's API: `POST /grpc` turns a connection into one to the engine's BuildKit.
ASK = (
    b"POST /grpc HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
    b"Content-Length: 0\r\n\r\n"
)


@contextmanager
def buildkitd(folder: Path, place: Place) -> Iterator[str]:
    """A BuildKit daemon of its own; the address it is reached at."""
    address = f"unix://{folder}/buildkit.sock"
    command = [*ALONE, "--mount-proc", "buildkitd", f"--addr={address}", f"--root={folder}/state"]
    with (folder / "buildkitd.log").open("wb") as log:

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(command, stdout=log, stderr=log, process_group=0)

        daemon = place.call(start)
    try:
        _wait_for(folder / "buildkit.sock", daemon, folder / "buildkitd.log")
        yield address
    finally:
        end(daemon)


def container_options(engine: Engine, folder: Path, settings: Settings) -> list[str]:
    """Options of `docker buildx create` for a builder in a container.

    They name an image as `moby/buildkit` is one, of this machine's programs and Debian's runc.
    """
    programs = folder / "programs" / "usr/bin"
    programs.mkdir(parents=True)
    for name in PROGRAMS:
        shutil.copy(str(shutil.which(name)), programs / name)
    root = trixie.trixie_root(settings, ("ca-certificates", "runc"))
    pack = ["tar", "--create", f"--directory={root}", ".", f"--directory={folder}/programs", "usr"]
    config = ["--change=ENV PATH=/usr/sbin:/usr/bin:/bin", '--change=ENTRYPOINT ["buildkitd"]']
    take = ["docker", "import", *config, "-", CONTAINER_IMAGE]
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as packing:
        subprocess.run(
            take, stdin=packing.stdout, env=engine.environment, check=True, capture_output=True
        )
    assert packing.returncode == 0
    # Its steps are where the mirror is.
    return [f"--driver-opt=image={CONTAINER_IMAGE}", "--driver-opt=network=host"]


def _wait_for(path: Path, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not path.exists():
        if daemon.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"buildkitd did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


@contextmanager
def engine_gate(engine: Engine, folder: Path) -> Iterator[str]:
    """The address of an engine's BuildKit as if it were a daemon somewhere else."""
    path = folder / "gate.sock"
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))
        door.listen()
        threading.Thread(target=_serve, args=(door, engine.folder), daemon=True).start()
        yield f"unix://{path}"
        door.shutdown(socket.SHUT_RDWR)


def _serve(door: socket.socket, folder: Path) -> None:
    with suppress(OSError):
        while True:
            outside, _address = door.accept()
            threading.Thread(target=_join, args=(outside, folder), daemon=True).start()


def _join(outside: socket.socket, folder: Path) -> None:
    with outside, socket.socket(socket.AF_UNIX) as inside, suppress(OSError):
        inside.connect(str(folder / "docker.sock"))
        inside.sendall(ASK)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += inside.recv(1)
        assert b" 101 " in answer.splitlines()[0], answer
        back = threading.Thread(target=_pass, args=(inside, outside), daemon=True)
        back.start()
        _pass(outside, inside)
        back.join()


def _pass(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(CHUNK):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
