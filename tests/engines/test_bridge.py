"""`--engine bake` and `docker` on an engine as most have it: with a bridge, no network named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.conftest import NEW, OLD
from tests.engines.daemons import Engine
from tests.engines.network import engine_network
from tests.engines.site import SmallSite, built
from tests.engines.test_build import compare_with_assembled, traces
from tests.peers.island import Island


@pytest.fixture(scope="module")
def place() -> Iterator[Island]:
    """A network whose bridge leads to the mirror."""
    with engine_network() as place:
        yield place


@pytest.mark.parametrize("engine", [NEW], indirect=True)
def test_bake_needs_no_network_option(engine: Engine, site: SmallSite) -> None:
    asked = len(site.mirror.requests)
    image = built(site.build(engine, "--engine", "bake", "--json"))
    paths = [path for path, _range in site.mirror.requests[asked:]]
    assert any(path.startswith("/files/torch-") for path in paths)
    assert "load local bake definitions" in Path(image["log"]).read_text()  # not `buildx build`
    assert traces(engine, site, image["image"]) == []
    compare_with_assembled(engine, site, image["image"])


@pytest.mark.parametrize("engine", [OLD, NEW], indirect=True)
def test_docker_finds_its_way_past_the_bridge(engine: Engine, site: SmallSite) -> None:
    site.forget_wheels()
    image = built(site.build(engine, "--engine", "docker", "--json"))
    assert traces(engine, site, image["image"]) == []
