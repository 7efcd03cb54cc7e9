"""A new Docker Engine, and what a server does with it: pull, then train."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.benchmark.publish.report import Run
from tests.benchmark.publish.site import Site
from tests.engines import trixie
from tests.engines.daemons import client_environment, own_engine, temporary_folder
from wheelyard.errors import WheelyardError
from wheelyard.system.subprocesses import run

STEP = Path(__file__).with_name("first_step.py")


@contextmanager
def opened(site: Site) -> Iterator[dict[str, str]]:
    """An empty engine, gone afterwards; the variables of its clients."""
    with temporary_folder(site.stores or site.folder) as folder, own_engine(folder, site.kind):
        config = trixie.client_configuration(folder, trixie.trixie_root(site.settings))
        variables = client_environment(folder)
        yield site.environment(DOCKER_HOST=variables["DOCKER_HOST"], DOCKER_CONFIG=str(config))


def pull(
    site: Site, way: str, images: Sequence[str], reference: Callable[[str], str]
) -> Iterator[Run]:
    """Pull each image into one engine, where the one before it is, and train one step."""
    with opened(site) as environment:
        before = ""
        for image in images:
            name = reference(image)
            yield Run.of(site, way, image, "pull", ["docker", "pull", "--quiet", name], environment)
            command = ["docker", "run", "--rm", "--interactive", "--network=none", name,
                       "python", "-"]  # fmt: skip
            yield Run.of(site, way, image, "step", command, environment, STEP)
            if before:
                run(("docker", "image", "rm", before), error=WheelyardError,
                    what="docker image rm", env=environment)  # fmt: skip
            before = name
