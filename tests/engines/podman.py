"""podman and buildah with their own storage, and what they need to run as root in a sandbox."""

from __future__ import annotations

import os
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
# An ordinary user with ids to hand out, whom only this program and what it starts know.
# `$3` is an image layout, which may be in a folder that is closed to others. skopeo unpacks layers
# into TMPDIR, which is the storage's folder, gigabytes that are gone with it.
BECOME = """\
user=$1 folder=$2 layout=$3 storage=$4; shift 4
for name in passwd group subuid subgid; do mount --bind "$folder/$name" "/etc/$name"; done
mount --bind "$layout" "$folder/layout"
cd "$folder/home"
exec setpriv --reuid="$user" --regid="$user" --clear-groups env -i PATH="$PATH" \
    HOME="$folder/home" XDG_RUNTIME_DIR="$folder/run" TMPDIR="$storage" "$@"
"""
HANDED_OUT = (100000, 65536)  # first id and number of those that the user may hand out


@dataclass(frozen=True, slots=True)
class Storage:
    """Images and containers of both tools."""

    folder: Path  # for gigabytes
    state: Path  # short: podman takes at most 50 characters
    apart: tuple[str, ...] = APART  # what starts its programs

    def take(self, layout: Path, reference: str) -> str:
        """Copy an image from a layout; the name it has here.

        `podman pull oci:FOLDER` would make a name of the folder, and not every folder is one.
        """
        name = f"localhost/{reference}"
        places = f"overlay@{self.folder}/storage+{self.state}/run"
        copy = [*self.apart, "skopeo", "copy", "--quiet", f"oci:{layout}:{reference}"]
        _run([*copy, f"containers-storage:[{places}]{name}"])
        return name

    def buildah(self, command: str, *arguments: str | Path) -> str:
        """Run buildah; what it prints."""
        return _run([*self.apart, "buildah", *self._places(), command, *map(str, arguments)])

    def build(self, context: Path, name: str, *options: str) -> str:
        """Build a Dockerfile; the image's id."""
        return _run(self.build_command(context, name, *options)).splitlines()[-1]

    def build_command(self, context: Path, name: str, *options: str) -> list[str]:
        """`buildah build`, with the machine's network in its steps."""
        given = [RUNTIME, "--network=host", f"--tag={name}", *options, str(context)]
        return [*self.apart, "buildah", *self._places(), "build", *given]

    def podman(self, command: str, *arguments: str | Path) -> str:
        """Run podman; what it prints."""
        return _run([*self.podman_command(), command, *map(str, arguments)])

    def podman_command(self, program: str = "podman") -> list[str]:
        """podman with this storage; neither systemd nor its journal has to be there."""
        places = [*self._places(), f"--tmpdir={self.state}/tmp"]
        return [
            *self.apart,
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


def rootless(folder: Path, state: Path, layout: Path, user: int) -> tuple[Storage, Path]:
    """A storage of an ordinary user of id `user`, and where he sees the layout."""
    first, count = HANDED_OUT
    known = {
        "passwd": f"builder:x:{user}:{user}::{state}/home:/bin/sh\n",
        "group": f"builder:x:{user}:\n",
    }
    for name, line in known.items():
        (state / name).write_text(Path("/etc", name).read_text() + line)
    for name in ("subuid", "subgid"):
        (state / name).write_text(f"builder:{first}:{count}\n")
    for place in (folder, *(state / name for name in ("home", "run", "layout"))):
        place.mkdir(exist_ok=True)
        os.chown(place, user, user)
    state.chmod(0o755)
    given = (str(user), str(state), str(layout), str(folder))
    become = ("sh", "-e", "-c", BECOME, "become", *given)
    return Storage(folder, state / "run", (*APART, *become)), state / "layout"


def _run(argv: list[str]) -> str:
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, f"{argv}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout
