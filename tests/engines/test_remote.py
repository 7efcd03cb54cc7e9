"""`--engine bake` on a builder somewhere else, which BUILDX_BUILDER names."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines.conftest import CONTAINERD
from tests.engines.daemons import Engine, temporary_folder
from tests.engines.network import engine_network
from tests.engines.parity import differences, read_config, read_tree
from tests.engines.remote import PROGRAMS, buildkitd, container_options, engine_gate
from tests.engines.site import SmallSite, built
from tests.needs import need_tools
from tests.peers.island import Island
from wheelyard.oci.layout import Layout
from wheelyard.settings import Settings

pytestmark = pytest.mark.parametrize("engine", [CONTAINERD], indirect=True)
OWN, ENGINES, CONTAINER = "buildkitd", "engine's", "container"
DRIVERS = {OWN: "remote", ENGINES: "remote", CONTAINER: "docker-container"}  # buildx's words


@pytest.fixture(scope="module")
def place() -> Iterator[Island]:
    """The mirror is there, and so are the builders' steps."""
    with engine_network() as place:
        yield place


@pytest.fixture(params=DRIVERS)
def builder(request: pytest.FixtureRequest) -> str:
    """Which one is chosen."""
    name: str = request.param
    if name != ENGINES:
        need_tools(*PROGRAMS, *(["runc"] if name == OWN else []))
    return name


@pytest.fixture
def far(
    builder: str,
    engine: Engine,
    place: Island,
    settings: Settings,
    request: pytest.FixtureRequest,
) -> Iterator[Engine]:
    """The engine, with another builder chosen for it."""
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder(request.config.getoption("--scratch")))
        if builder == CONTAINER:
            reached = container_options(engine, folder, settings)
        elif builder == OWN:
            reached = [stack.enter_context(buildkitd(folder, place))]
        else:
            reached = [stack.enter_context(engine_gate(engine, folder))]
        create = ["docker", "buildx", "create", "--name=far", f"--driver={DRIVERS[builder]}"]
        subprocess.run([*create, *reached], env=engine.environment, check=True, capture_output=True)
        yield replace(engine, environment={**engine.environment, "BUILDX_BUILDER": "far"})
        remove = ["docker", "buildx", "rm", "far"]
        subprocess.run(remove, env=engine.environment, check=True, capture_output=True)


def test_a_builder_somewhere_else_writes_a_layout(
    builder: str, far: Engine, site: SmallSite
) -> None:
    asked = len(site.mirror.requests)
    image = built(site.build(far, "--engine", "bake", "--no-load", "--json"))
    paths = [path for path, _range in site.mirror.requests[asked:]]
    assert any(path.startswith("/files/torch-") for path in paths)  # asked for by RUN steps
    assert f'"far" instance using {DRIVERS[builder]} driver' in Path(image["log"]).read_text()
    layout = Layout(site.folder / "dist" / site.cell.id)
    (found,) = json.loads((layout.folder / "index.json").read_text())["manifests"]
    assert found["digest"] == image["image"]
    shutil.rmtree(layout.folder)


def test_what_another_builder_made_is_loaded_and_is_the_assembled_image(
    far: Engine, site: SmallSite
) -> None:
    image = built(site.build(far, "--engine", "bake", "--load", "--json"))
    far.client.images.get(image["image"]).tag("compared", "built")
    done = site.build(far, "--load", "--output", site.folder / "assembled")
    assert done.returncode == 0, done.stderr
    tag = site.cell.tags[0]
    found = differences(read_tree(far.client, tag), read_tree(far.client, "compared:built"))
    assert found == [], "\n".join(found)
    assert read_config(far.client, tag) == read_config(far.client, "compared:built")


def test_a_builder_that_does_not_answer_is_named(engine: Engine, site: SmallSite) -> None:
    nowhere = f"unix://{site.folder}/nobody.sock"
    create = ["docker", "buildx", "create", "--name=gone", "--driver=remote", nowhere]
    subprocess.run(create, env=engine.environment, check=True, capture_output=True)
    gone = replace(engine, environment={**engine.environment, "BUILDX_BUILDER": "gone"})
    result = site.build(gone, "--engine", "bake", "--no-load")
    assert result.returncode == 12, result.stderr
    assert "asking the builder gone failed" in result.stderr
    assert "`docker buildx ls` lists builders" in result.stderr
