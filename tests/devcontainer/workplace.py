"""Somebody with a workspace, the CLI and an engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from devcontainers import read_config

from tests.devcontainer.npm import NODE_COPY, PROGRAM
from tests.engines.daemons import Engine
from tests.peers.command import wheelyard
from tests.peers.project import REPOSITORY

CONFIG = Path(".devcontainer", "devcontainer.json")
DEV = 1000  # the user of the images
TIMEOUT = 300
# Another user without making one: a line of /etc/passwd that nobody else sees.
BECOME = (
    'mount --bind "$1" /etc/passwd; id=$2; shift 2; '
    'exec setpriv --reuid "$id" --regid "$id" --clear-groups -- "$@"'
)


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where the CLI is run, by whom, and against which engine."""

    uid: int  # who runs it
    folder: Path  # home, temporary files and the workspace `project`
    cli: Path
    engine: Engine
    variables: Mapping[str, str]
    options: tuple[str, ...] = ()  # of every `up`

    @property
    def project(self) -> Path:
        return self.folder / "project"

    @property
    def owner(self) -> int:
        """Whom the container's user should be: for root there is no remapping."""
        return self.uid or DEV

    def read(self) -> dict[str, Any]:
        return read_config((self.project / CONFIG).read_text())

    def write(self, config: Mapping[str, Any]) -> None:
        path = self.project / CONFIG
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(config))

    def with_options(self, *options: str, **variables: str) -> Workplace:
        return replace(self, options=options, variables={**self.variables, **variables})

    def call(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command of the CLI on the workspace."""
        program = [str(self.cli / NODE_COPY), str(self.cli / PROGRAM), command]
        program += ["--workspace-folder", str(self.project), *arguments]
        return subprocess.run(
            program if self.uid == 0 else self._become(program),
            check=False, capture_output=True, text=True, timeout=TIMEOUT,
            cwd=self.folder, env={**os.environ, **self.variables},
        )  # fmt: skip

    def _become(self, program: list[str]) -> list[str]:
        passwd = str(self.folder / "passwd")
        become = ["unshare", "--mount", "sh", "-e", "-c", BECOME, "become", passwd, str(self.uid)]
        return [*become, *program]

    def try_up(self) -> subprocess.CompletedProcess[str]:
        # Without the option an `up` after a failed start starts that container again.
        return self.call("up", "--remove-existing-container", *self.options)

    def up(self) -> dict[str, Any]:
        """Start the container; what the CLI says of it."""
        done = self.try_up()
        assert done.returncode == 0, done.stderr[-4000:]
        said = dict(json.loads(done.stdout.splitlines()[-1]))
        assert said["outcome"] == "success"
        return said

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self.call("exec", *command)

    def output(self, *command: str) -> str:
        """What a command prints in the container, as the terminal's user."""
        done = self.execute(*command)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def shell(self, line: str) -> str:
        return self.output("bash", "-c", line)


def make_workplace(parent: Path, uid: int, cli: Path, engine: Engine) -> Workplace:
    """A new workspace of `uid`'s (for root: of the image's user, as nobody is remapped)."""
    folder = Path(parent, f"by-{uid}")
    for name in ("project", "home", "tmp"):
        (folder / name).mkdir(parents=True)
    line = f"somebody:x:{uid}:{uid}::{folder}/home:/bin/bash\n"
    (folder / "passwd").write_text(Path("/etc/passwd").read_text() + line)
    variables = {
        "DOCKER_HOST": engine.environment["DOCKER_HOST"],
        "DOCKER_CONFIG": f"{folder}/home/.docker",
        "HOME": f"{folder}/home",
        "TMPDIR": f"{folder}/tmp",
    }
    place = Workplace(uid, folder, cli, engine, variables)
    give(place)
    return place


def remove_containers(place: Workplace) -> None:
    """Remove what `up` made, also where the start failed."""
    label = f"devcontainer.local_folder={place.project}"
    for container in place.engine.client.containers.list(all=True, filters={"label": label}):
        container.remove(force=True, v=True)


def give(place: Workplace) -> None:
    """Let everything in the workplace belong to who works there."""
    for path in (place.folder, *place.folder.rglob("*")):
        shutil.chown(path, place.owner, place.owner)


def init(place: Workplace, *options: str) -> None:
    """Let `wheelyard devcontainer init` write the configuration of PyTorch 2.3.1."""
    where = ["--output", str(place.project), "--project", str(REPOSITORY)]
    wanted = ["--framework", "pytorch-2.3", "--cuda", "12.1", "--force"]
    arguments = ["devcontainer", "init", *where, *wanted, *options]
    done = wheelyard(arguments, place.folder / "home", place.variables)
    assert done.returncode == 0, done.stderr
    give(place)
