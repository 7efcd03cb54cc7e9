"""The Dockerfile that most people write: built and pushed by Docker."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmark.engines.stage import STEPS
from tests.benchmark.publish.engine import opened
from tests.benchmark.publish.report import Run
from tests.benchmark.publish.site import Site
from wheelyard.contract.imageconfig import base_image
from wheelyard.errors import WheelyardError
from wheelyard.system.subprocesses import run

FROM_FOLDER = "RUN --mount=type=bind,target=/wheels"
INSTALL = "pip install --no-index --find-links=/wheels"


@dataclass(frozen=True, slots=True)
class Builder:
    """An engine that has the base, and a build context that holds the wheels."""

    site: Site
    environment: dict[str, str]
    context: Path

    def provide(self, image: str) -> None:
        """Bring the wheels to where the engine mounts them from: they are on the disk, then."""
        self.site.link_wheels(image, self.context)
        from_base = f"FROM {base_image(self.site.cells[image])}"
        torch = f"torch=={self.site.cells[image].framework_version}"
        steps = {"Warm": f"ls /wheels # {image}", "Dockerfile": f"{INSTALL} {torch}"}
        for name, step in steps.items():
            (self.context / name).write_text(f"{from_base}\n{FROM_FOLDER} {step}\n")
        self.docker(*self.build_command("--file", str(self.context / "Warm"))[1:])

    def build_command(self, *options: str) -> list[str]:
        """`docker build` as it is typed today."""
        head = ["docker", "buildx", "build", "--progress=plain", "--network=none"]
        return [*head, *options, str(self.context)]

    def forget_steps(self) -> None:
        """Make room: the wheels that were mounted, and kept steps that no other image can use."""
        for kind in STEPS:
            self.docker("buildx", "prune", "--all", "--force", f"--filter=type={kind}")

    def forget(self, name: str) -> None:
        """Remove an image."""
        self.docker("image", "rm", "--force", name)

    def docker(self, *arguments: str) -> None:
        """Run the engine's client, unmeasured."""
        what = " ".join(("docker", *arguments[:2]))
        run(("docker", *arguments), error=WheelyardError, what=what, env=self.environment)


def reference(site: Site, address: str, image: str) -> str:
    """The image's name in the registry."""
    return f"{address}/usual:{site.cells[image].framework_version}"


@contextmanager
def builder(site: Site) -> Iterator[Builder]:
    """A new engine with the base and no wheel installed."""
    with opened(site) as environment:
        found = Builder(site, environment, site.folder / "context")
        run(
            (sys.executable, "-m", "wheelyard", "base", "--load", "--project", str(site.project),
             "--output", str(site.folder / "bases")),
            error=WheelyardError, what="the base", env=environment, cwd=site.project,
        )  # fmt: skip
        yield found


def publish(site: Site, images: list[str], address: str) -> Iterator[Run]:
    """Build and push one image after the other; a second push when all is there."""
    with builder(site) as here:
        for image in images:
            here.provide(image)
            name = reference(site, address, image)

            def measure(phase: str, command: list[str], image: str = image) -> Run:
                return Run.of(site, "usual", image, phase, command, here.environment)

            yield measure("build", here.build_command(f"--tag={name}"))
            here.forget_steps()
            yield measure("push", ["docker", "push", name])
            if image == "first":
                yield measure("again", ["docker", "push", name])
            here.forget(name)
