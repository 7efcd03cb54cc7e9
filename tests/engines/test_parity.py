"""PyTorch in both flavours, three ways: assembled, built by Docker, built by BuildKit. Minutes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.engines.conftest import NEW, REPOSITORY
from tests.engines.daemons import Engine
from tests.engines.network import engine_network
from tests.engines.parity import Node, differences, read_config, read_tree
from tests.peers.command import wheelyard
from tests.peers.island import Island, Place
from tests.peers.project import machine_cache

CELL = "pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11"
WAYS = {
    "assemble": ("--load",),
    "docker": ("--engine", "docker"),
    "bake": ("--engine", "bake"),
}
TIMEOUT = 2400
SHARED = ("cuda", "cudnn", "framework")  # the stages that both flavours have


@pytest.fixture(scope="module")
def place() -> Iterator[Island]:
    """A network with a bridge, as an engine has it that somebody installed, and a way out."""
    with engine_network(way_out=True) as place:
        yield place


def build(engine: Engine, place: Place, folder: Path, cell: str, way: str) -> str:
    """Build one image into the engine, with this machine's cache; its id there."""
    given: list[str | Path] = [*WAYS[way], "--json", "--output", folder / way]
    words = ["build", cell, *given, "--project", REPOSITORY, "--cache-dir", machine_cache()]
    done = place.call(lambda: wheelyard(words, folder, engine.client_settings, timeout=TIMEOUT))
    assert done.returncode == 0, done.stderr
    (image,) = json.loads(done.stdout)
    return str(engine.client.images.get(image["tags"][0]).id)


def size_of(engine: Engine, image: str) -> int:
    """Bytes of all layers of an image, unpacked."""
    return int(engine.client.images.get(image).attrs["Size"])


def cached(log: str) -> set[str]:
    """The stages whose last step BuildKit did not run again."""
    steps = dict(re.findall(r"^(#\d+) \[(?:\S+ )?(\w+) \d+/\d+\] ", log, re.MULTILINE))
    done = re.findall(r"^(#\d+) CACHED$", log, re.MULTILINE)
    return {steps[number] for number in done if number in steps}


@pytest.mark.parametrize("engine", [NEW], indirect=True)
@pytest.mark.parametrize("flavour", ["runtime", "devel"])
def test_three_ways_give_one_image(
    engine: Engine, place: Place, scratch: Path, flavour: str
) -> None:
    engine.client.api.timeout = 600
    trees: dict[str, Mapping[str, Node]] = {}
    configs: dict[str, dict[str, Any]] = {}
    added: dict[str, tuple[int, int]] = {}
    for way in WAYS:
        before = engine.client.df()["LayersSize"]
        image = build(engine, place, scratch, f"{CELL}-{flavour}", way)
        added[way] = engine.client.df()["LayersSize"] - before, size_of(engine, image)
        trees[way] = read_tree(engine.client, image)
        configs[way] = read_config(engine.client, image)
        if way == "assemble":
            engine.client.images.remove(image, force=True)
    log = (scratch / "bake" / "logs" / f"{CELL}-{flavour}.log").read_text()
    assert "load local bake definitions" in log  # not `docker buildx build`, image by image
    print(json.dumps({"flavour": flavour, "bytes": added, "cached": sorted(cached(log))}))
    if flavour == "devel":
        assert cached(log) >= set(SHARED)
        own, whole = added["bake"]
        assert own < 0.5 * whole
    for way in ("docker", "bake"):
        found = differences(trees["assemble"], trees[way])
        assert found == [], f"{way}:\n" + "\n".join(found[:50])
        assert configs[way] == configs["assemble"]
