"""podman and buildah with their own storage, and what they need to run as root in a sandbox."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.engines.daemons import ALONE, START_SECONDS, end

TIMEOUT = 600
APART = (*ALONE, "--mount-proc")
# Debian's crun refuses a machine that has cgroup v1 beside v2; runc takes both.
RUNTIME = "--runtime=runc"
# Where root may not raise limits, podman's default limits are refused.
LIMITS = "--ulimit=host"


@dataclass(frozen=True, slots=True)
class Storage:
    """Images and containers of both tools."""

    folder: Path  # for gigabytes
    state: Path  # short: podman takes at most 50 characters

    def take(self, layout: Path, reference: str) -> str:
        """Copy an image from a layout; the name it has here.

        `podman pull oci:FOLDER` would make a name of the folder, and not every folder is one.
        """
        name = f"localhost/{reference}"
        places = f"overlay@{self.folder}/storage+{self.state}/run"
        copy = [*APART, "skopeo", "copy", "--quiet", f"oci:{layout}:{reference}"]
        _run([*copy, f"containers-storage:[{places}]{name}"])
        return name

    def buildah(self, command: str, *arguments: str | Path) -> str:
        """Run buildah; what it prints."""
        return _run([*APART, "buildah", *self._places(), command, *map(str, arguments)])

    def build(self, context: Path, name: str, *options: str) -> str:
        """Build a Dockerfile; the image's id."""
        return _run(self.build_command(context, name, *options)).splitlines()[-1]

    def build_command(self, context: Path, name: str, *options: str) -> list[str]:
        """`buildah build`, with the machine's network in its steps."""
        given = [RUNTIME, "--network=host", f"--tag={name}", *options, str(context)]
        return [*APART, "buildah", *self._places(), "build", *given]

    def podman(self, command: str, *arguments: str | Path) -> str:
        """Run podman; what it prints."""
        return _run([*self.podman_command(), command, *map(str, arguments)])

    def podman_command(self, program: str = "podman") -> list[str]:
        """podman with this storage; neither systemd nor its journal has to be there."""
        places = [*self._places(), f"--tmpdir={self.state}/tmp"]
        return [
            *APART,
            program,
            *places,
            RUNTIME,
            "--cgroup-manager=cgroupfs",
            "--events-backend=file",
        ]

    def run(self, image: str, *command: str) -> str:
        """What a command prints in a container without a network."""
        return self.podman("run", "--rm", "--network=none", LIMITS, image, *command)

    @contextmanager
    def service(self) -> Iterator[str]:
        """CONTAINER_HOST of a podman that runs containers until it is ended, and they with it."""
        socket = self.state / "podman.sock"
        command = [*self.podman_command(), "system", "service", "--time=0", f"unix://{socket}"]
        with (self.state / "log").open("wb") as log:
            service = subprocess.Popen(command, stdout=log, stderr=log, process_group=0)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not socket.exists() and service.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            assert socket.exists(), (self.state / "log").read_text()
            yield f"unix://{socket}"
        finally:
            end(service)

    def _places(self) -> list[str]:
        return [
            f"--root={self.folder}/storage",
            f"--runroot={self.state}/run",
            "--storage-driver=overlay",
        ]


def _run(argv: list[str]) -> str:
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, f"{argv}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout
