"""A base, and what is built on it, by an engine alone. 20 minutes, 10 GB.

Debian's image comes from a registry on loopback that stands for the public one.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.engines.conftest import NEW, REPOSITORY
from tests.engines.daemons import Engine
from tests.engines.network import engine_network
from tests.engines.parity import Node, differences, read_config, read_tree
from tests.engines.test_pinned import push_debian, registry
from tests.peers.command import wheelyard
from tests.peers.island import Island
from tests.peers.project import machine_cache
from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.dockerfiles.secrets import write_secrets
from wheelyard.planning.plan import load_plan
from wheelyard.planning.selector import select
from wheelyard.rendering.bakefile import target_name
from wheelyard.settings import Settings

CELL = "pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime"
BASE = "wheelyard/base:bookworm-runtime"
FOLDER, BASE_TARGET = "images/bases/bookworm-runtime", "base-bookworm-runtime"
# What may differ, beside what parity.py allows in every image.
REASONS = {
    "etc/apt/sources.list": "the official image names its own mirrors",
    "etc/group": "groups of packages are in the order of their configuration",
    "etc/gshadow": "the same",
    "etc/shells": "the same",
    "usr/local/bin/selfcheck": "the same call, in other words",
    "var/lib/dpkg/diversions": "packages of the image it starts from had made diversions, too",
}


@pytest.fixture(scope="module")
def place() -> Iterator[Island]:
    """A network with a bridge for the steps, and a way out to Debian's mirrors and an index."""
    with engine_network(way_out=True) as place:
        yield place


def seen(tree: dict[str, Node]) -> dict[str, Node]:
    """An image's paths without /dev, which a container gets from its engine."""
    return {path: node for path, node in tree.items() if not path.startswith("dev/")}


def run(argv: list[str], engine: Engine) -> None:
    """A client of the engine, with BuildKit, in this repository."""
    done = subprocess.run(
        argv, cwd=REPOSITORY, env={**engine.environment, "DOCKER_BUILDKIT": "1"},
        capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


def layers_of(engine: Engine, image: str) -> list[str]:
    layers: list[str] = engine.client.images.get(image).attrs["RootFS"]["Layers"]
    return layers


@pytest.mark.parametrize("engine", [NEW], indirect=True)
def test_a_base_by_docker_alone_is_the_assembled_one(
    engine: Engine, place: Island, scratch: Path, settings: Settings
) -> None:
    engine.client.api.timeout = 600
    words: list[str | Path] = [
        "base",
        CELL,
        "--load",
        "--project",
        REPOSITORY,
        "--cache-dir",
        machine_cache(),
    ]
    made = wheelyard([*words, "--output", scratch / "bases"], scratch, engine.client_settings)
    assert made.returncode == 0, made.stderr
    assembled, config = read_tree(engine.client, BASE), read_config(engine.client, BASE)
    engine.client.images.remove(BASE, force=True)

    (cell,) = select(load_plan(REPOSITORY), CELL)
    secrets = write_secrets(cell, Context(settings, QuietReporter(None)), scratch)
    with ExitStack() as stack:
        address = place.call(lambda: stack.enter_context(registry(scratch)))
        argv = ["docker", "build", "--tag", BASE, "--file", f"{FOLDER}/Dockerfile"]
        debian = push_debian(engine, address, scratch, settings)
        argv += [f"--build-arg=DEBIAN={debian}"]
        argv += [f"--secret=id={name},src={path}" for name, path in secrets.items()]
        run([*argv, "."], engine)
        built, layers = read_tree(engine.client, BASE), layers_of(engine, BASE)
        assert read_config(engine.client, BASE) == config
        engine.client.images.remove(BASE, force=True)
        # One command in a fresh clone makes base and image. Its result here is the image's first
        # stage; BuildKit runs the steps that images share all the same, up to the framework.
        argv = ["docker", "buildx", "bake", f"--set={BASE_TARGET}.args.DEBIAN={debian}"]
        name = target_name(CELL)
        argv += [f"--set={name}.target=base", f"--set={name}.tags={BASE}"]
        argv += [f"--set=*.secrets=id={key},src={path}" for key, path in secrets.items()]
        run([*argv, name], engine)
        assert layers_of(engine, BASE) == layers
    found = differences(seen(assembled), seen(built))
    assert {line.partition(":")[0] for line in found} <= REASONS.keys(), "\n".join(found[:50])
    for path in ("etc/group", "etc/gshadow", "etc/shells"):
        one, two = assembled[path], built[path]
        assert (one.mode, one.uid, one.gid) == (two.mode, two.uid, two.gid)
