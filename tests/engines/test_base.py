"""A base, and what is built on it, by an engine alone. 20 minutes, 10 GB.

Debian's image comes from a registry on loopback that stands for the public one.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
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

BOOKWORM = "pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime"
TRIXIE = "jax-0.12.0.1-cuda13.2-cudnn9.26-py3.13-runtime"  # the smallest whose base is trixie
# As Debian's own image: no Python, no certificates, deb822 sources, rules of its own.
OFFICIAL = """\
set -eu
printf 'path-exclude %s/*\\n' /usr/share/doc /usr/share/man /usr/share/locale \
    > "$1/etc/dpkg/dpkg.cfg.d/docker"
echo 'Apt::AutoRemove::SuggestsImportant "false";' > "$1/etc/apt/apt.conf.d/docker-autoremove"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
while read -r _ uri suite parts; do
    printf 'Types: deb\\nURIs: %s\\nSuites: %s\\nComponents: %s\\nSigned-By: %s\\n\\n' \
        "$uri" "$suite" "$parts" "$keys"
done < "$1/etc/apt/sources.list" > "$1/etc/apt/sources.list.d/debian.sources"
rm "$1/etc/apt/sources.list"
"""
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


def run(argv: Sequence[str], engine: Engine, folder: Path = REPOSITORY) -> str:
    """What a client of the engine prints, with BuildKit, in this repository."""
    done = subprocess.run(
        argv, cwd=folder, env={**engine.environment, "DOCKER_BUILDKIT": "1"},
        capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def layers_of(engine: Engine, image: str) -> list[str]:
    layers: list[str] = engine.client.images.get(image).attrs["RootFS"]["Layers"]
    return layers


def base_of(suite: str) -> str:
    return f"wheelyard/base:{suite}-runtime"


@contextmanager
def official(
    suite: str, engine: Engine, place: Island, scratch: Path, settings: Settings
) -> Iterator[str]:
    """The name of Debian's image, in the registry that stands for the public one."""
    folder = scratch / suite
    folder.mkdir(exist_ok=True)
    hook = folder / "hook"
    hook.write_text(OFFICIAL)
    options = ["--variant=minbase", f'--customize-hook=sh "{hook}" "$1"']
    with ExitStack() as stack:
        address = place.call(lambda: stack.enter_context(registry(folder)))
        yield push_debian(engine, address, folder, settings, suite, options)


def secrets_for(cell_id: str, scratch: Path, settings: Settings) -> list[str]:
    """What a build by hand gives to steps: this machine's CA and mirrors."""
    (cell,) = select(load_plan(REPOSITORY), cell_id)
    secrets = write_secrets(cell, Context(settings, QuietReporter(None)), scratch)
    return [f"id={name},src={path}" for name, path in secrets.items()]


def build_base(engine: Engine, suite: str, debian: str, secrets: Sequence[str]) -> None:
    argv = ["docker", "build", "--tag", base_of(suite), f"--build-arg=DEBIAN={debian}"]
    argv += ["--file", f"images/bases/{suite}-runtime/Dockerfile"]
    run([*argv, *(f"--secret={secret}" for secret in secrets), "."], engine)


@pytest.mark.parametrize("engine", [NEW], indirect=True)
@pytest.mark.parametrize(("cell", "suite"), [(BOOKWORM, "bookworm"), (TRIXIE, "trixie")])
def test_a_base_by_docker_alone_is_the_assembled_one(
    engine: Engine, place: Island, scratch: Path, settings: Settings, cell: str, suite: str
) -> None:
    engine.client.api.timeout = 600
    base = base_of(suite)
    words: list[str | Path] = ["base", cell, "--load", "--project", REPOSITORY]
    words += ["--cache-dir", machine_cache(), "--output", scratch / "bases"]
    made = wheelyard(words, scratch, engine.client_settings)
    assert made.returncode == 0, made.stderr
    assembled, config = read_tree(engine.client, base), read_config(engine.client, base)
    engine.client.images.remove(base, force=True)

    with official(suite, engine, place, scratch, settings) as debian:
        build_base(engine, suite, debian, secrets_for(cell, scratch, settings))
    built = read_tree(engine.client, base)
    assert read_config(engine.client, base) == config
    found = differences(seen(assembled), seen(built))
    assert {line.partition(":")[0] for line in found} <= REASONS.keys(), "\n".join(found[:50])
    for path in ("etc/group", "etc/gshadow", "etc/shells"):
        one, two = assembled[path], built[path]
        assert (one.mode, one.uid, one.gid) == (two.mode, two.uid, two.gid)


@pytest.mark.parametrize("engine", [NEW], indirect=True)
def test_one_command_in_a_fresh_clone_makes_base_and_image(
    engine: Engine, place: Island, scratch: Path, settings: Settings
) -> None:
    """To its end, with the project's committed files alone; then it is run."""
    engine.client.api.timeout = 600
    clone = scratch / "clone"
    run(["git", "checkout-index", "--all", f"--prefix={clone}/"], engine)
    secrets = secrets_for(TRIXIE, scratch, settings)
    with official("trixie", engine, place, scratch, settings) as debian:
        name = target_name(TRIXIE)
        argv = ["docker", "buildx", "bake", "--load", name]
        argv += [f"--set=base-trixie-runtime.args.DEBIAN={debian}"]
        argv += [f"--set=*.secrets={secret}" for secret in secrets]
        run(argv, engine, clone)
        build_base(engine, "trixie", debian, secrets)  # the steps are known by now
    (cell,) = select(load_plan(REPOSITORY), TRIXIE)
    image = cell.tags[0]
    base = layers_of(engine, base_of("trixie"))
    assert layers_of(engine, image)[: len(base)] == base
    argv = ["docker", "run", "--rm", "--network=none", image, "selfcheck"]
    said = run([*argv, "versions", "libraries"], engine)
    assert " 0 failed" in said
