"""The ways to the image: the command of each, as users give it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.benchmark.engines import stores
from tests.benchmark.engines.projects import Project
from tests.engines.podman import Storage

CA = "/etc/ssl/certs/ca-certificates.crt"  # where RUN steps find this machine's certificates
PIP_BASE = "bench/base"
DOCKERS = (stores.CLASSIC, stores.CONTAINERD)


@dataclass(frozen=True, slots=True)
class Folders:
    """What the ways work in."""

    cache: Path  # Wheelyard's
    output: Path  # Wheelyard's
    contexts: Path  # for Dockerfiles of the benchmark's own
    temporary: Path  # buildah's
    certificates: Path  # PEM: the system's CAs and the settings' extra ones
    storage: Storage  # buildah's


class Way(Protocol):
    """One way to build the image."""

    @property
    def name(self) -> str:
        """A word for the report."""

    @property
    def title(self) -> str:
        """A line for people."""

    @property
    def stores(self) -> Sequence[str]:
        """Where it is measured; a report of one store only, without its name, is of the first."""

    def command(self, project: Project, folders: Folders) -> list[str]:
        """The argument list that is measured."""
        ...

    def image(self, project: Project) -> str:
        """The name of the result."""
        ...


@dataclass(frozen=True, slots=True)
class Pip:
    """The Dockerfile most people write."""

    name: str
    title: str
    builder: tuple[str, ...]  # "docker buildx build", or the one that docker had before
    stores: Sequence[str]

    def command(self, project: Project, folders: Folders) -> list[str]:
        """`docker build` of two lines."""
        context = folders.contexts / f"pip-{len(project.requirements)}"
        context.mkdir(exist_ok=True)
        lines = (f"FROM {PIP_BASE}", f"RUN pip install {' '.join(project.requirements)}")
        (context / "Dockerfile").write_text("\n".join(lines) + "\n")
        return [*self.builder, "--network=host", f"--tag={self.image(project)}", str(context)]

    def image(self, project: Project) -> str:
        """A name of its own."""
        return f"bench/{self.name}"


@dataclass(frozen=True, slots=True)
class Wheelyard:
    """`wheelyard build`."""

    name: str
    title: str
    options: tuple[str, ...]
    stores: Sequence[str] = DOCKERS

    def command(self, project: Project, folders: Folders) -> list[str]:
        """All of it: start, fetch, build, load, tag."""
        return [
            sys.executable, "-m", "wheelyard", "build", project.cell.id, *self.options,
            "--project", str(project.folder), "--output", str(folders.output),
            "--cache-dir", str(folders.cache),
        ]  # fmt: skip

    def image(self, project: Project) -> str:
        """The full tag."""
        return project.cell.tags[0]


@dataclass(frozen=True, slots=True)
class Buildah:
    """The rendered Dockerfile, as it is, by buildah."""

    name: str
    title: str
    stores: Sequence[str] = (stores.BUILDAH,)

    def command(self, project: Project, folders: Folders) -> list[str]:
        """With layers kept, as docker does and podman; certificates mounted, as at a site."""
        trust = [f"--volume={folders.certificates}:{CA}:ro", f"--env=SSL_CERT_FILE={CA}"]
        context = project.folder / project.cell.folder
        return folders.storage.build_command(context, self.image(project), "--layers", *trust)

    def image(self, project: Project) -> str:
        """A name of its own."""
        return f"localhost/bench/{self.name}"


@dataclass(frozen=True, slots=True)
class Reload:
    """What the engine itself needs for an archive that it wrote."""

    name: str
    title: str
    stores: Sequence[str] = DOCKERS

    def command(self, project: Project, folders: Folders) -> list[str]:
        """`docker load`; nothing is fetched or built."""
        return ["docker", "load", f"--input={self.archive(folders)}"]

    def image(self, project: Project) -> str:
        """The full tag, under which it was saved."""
        return project.cell.tags[0]

    def archive(self, folders: Folders) -> Path:
        """What `docker save` wrote."""
        return folders.temporary / "saved.tar"


BUILDKIT = ("docker", "buildx", "build", "--progress=plain")
CLASSIC = ("env", "DOCKER_BUILDKIT=0", "docker", "build")
PIP = Pip("pip", "FROM base, RUN pip install torch", BUILDKIT, DOCKERS)
# In one store: minutes more in the other would say nothing about ours.
PIP_CLASSIC = Pip("pip-classic", "the same, classic builder", CLASSIC, (stores.CLASSIC,))
BUILDAH = Buildah("buildah", "our Dockerfile, by buildah")
ASSEMBLE = Wheelyard("assemble", "wheelyard build, then loaded", ("--load",))
RELOAD = Reload("reload", "docker load of its own archive")
WAYS: tuple[Way, ...] = (
    PIP,
    PIP_CLASSIC,
    Wheelyard("docker", "wheelyard build --engine docker",
              ("--engine", "docker", "--network", "host")),
    Wheelyard("bake", "wheelyard build --engine bake", ("--engine", "bake", "--network", "host")),
    BUILDAH,
    ASSEMBLE,
    RELOAD,
)  # fmt: skip
