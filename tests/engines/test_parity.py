"""PyTorch in both flavours, three ways: assembled, built by Docker, built by BuildKit. Minutes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.engines.conftest import NEW, REPOSITORY
from tests.engines.daemons import Engine
from tests.engines.parity import Node, differences, read_config, read_tree
from tests.peers.command import wheelyard
from tests.peers.project import machine_cache

CELL = "pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11"
WAYS = {
    "assemble": ("--load",),
    "docker": ("--engine", "docker"),
    "bake": ("--engine", "bake", "--network", "host"),
}
TIMEOUT = 1200


def build(engine: Engine, folder: Path, cell: str, way: str) -> str:
    """Build one image into the engine, with this machine's cache; its id there."""
    given: list[str | Path] = [*WAYS[way], "--json", "--output", folder / way]
    words = ["build", cell, *given, "--project", REPOSITORY, "--cache-dir", machine_cache()]
    done = wheelyard(words, folder, engine.client_settings, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    (image,) = json.loads(done.stdout)
    return str(engine.client.images.get(image["tags"][0]).id)


@pytest.mark.parametrize("engine", [NEW], indirect=True)
@pytest.mark.parametrize("flavour", ["runtime", "devel"])
def test_three_ways_give_one_image(engine: Engine, scratch: Path, flavour: str) -> None:
    engine.client.api.timeout = 600
    trees: dict[str, Mapping[str, Node]] = {}
    configs: dict[str, dict[str, Any]] = {}
    for way in WAYS:
        image = build(engine, scratch, f"{CELL}-{flavour}", way)
        trees[way] = read_tree(engine.client, image)
        configs[way] = read_config(engine.client, image)
        if way == "assemble":
            engine.client.images.remove(image, force=True)
    for way in ("docker", "bake"):
        found = differences(trees["assemble"], trees[way])
        assert found == [], f"{way}:\n" + "\n".join(found[:50])
        assert configs[way] == configs["assemble"]
