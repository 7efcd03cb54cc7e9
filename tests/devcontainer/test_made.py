"""From a clone to a prompt: `up` makes the image and loads it; or the image is published."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.devcontainer.conftest import ROOT
from tests.devcontainer.test_opened import TRAIN
from tests.devcontainer.workplace import Workplace, give, make_workplace, remove_containers
from tests.engines.daemons import Engine
from tests.needs import need_tools
from tests.peers.command import wheelyard
from tests.peers.project import REPOSITORY
from tests.peers.registries import registry
from wheelyard.console.progress import QuietReporter
from wheelyard.engines.docker import has_image
from wheelyard.oci.address import parse_address
from wheelyard.planning.catalogue import plan_entries
from wheelyard.planning.plan import load_inputs, load_plan
from wheelyard.publish.catalogue import publish_catalogue
from wheelyard.registry.client import open_registry
from wheelyard.settings import Settings

DIGEST = f"sha256:{'a' * 64}"
CONFIG = Path(".devcontainer", "pytorch", "devcontainer.json")
AXES = {
    "cuda": ["12.1"],
    "cudnn": ["8.9"],
    "framework": ["pytorch 2.3.1"],
    "python": ["3.11"],
    "base": ["bookworm"],
    "flavour": ["runtime", "devel"],
}


@pytest.fixture
def clone(scratch: Path, cli: Path, engine: Engine, settings: Settings) -> Iterator[Workplace]:
    """A checkout whose `pytorch` is the image that this machine's cache has all layers of.

    Root's, as the cache may be; the programs of `make` are the ones that run this test.
    """
    made = make_workplace(scratch / "clone", ROOT, cli, engine)
    copy_checkout(made.project)
    variables = {
        "PYTHONPATH": str(REPOSITORY / "builder"),
        "WHEELYARD_CACHE": str(settings.cache_dir),
    }
    place = made.with_options("--config", str(made.project / CONFIG), **variables)
    call(place, "render")
    yield place
    remove_containers(place)
    shutil.rmtree(scratch / "clone")


def copy_checkout(project: Path) -> None:
    """What `make devcontainer` takes, with a matrix of one framework."""
    matrix: dict[str, Any] = yaml.safe_load((REPOSITORY / "matrix.yaml").read_text())
    matrix = {name: part for name, part in matrix.items() if name not in {"include", "exclude"}}
    (project / "matrix.yaml").write_text(yaml.safe_dump(matrix | {"axes": AXES}, sort_keys=False))
    for name in ("Makefile", "requirements/run.txt", "pyproject.toml"):
        (project / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, project / name)
    shutil.copytree(REPOSITORY / "templates", project / "templates")
    for cell in load_plan(project).cells:
        shutil.copytree(REPOSITORY / cell.folder, project / cell.folder)
        (project / cell.base_lock).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / cell.base_lock, project / cell.base_lock)
    shutil.copy(TRAIN, project)
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".venv/bin/wheelyard").symlink_to(Path(sys.prefix, "bin/wheelyard"))
    (project / ".venv/run").touch()  # `make` would install everything there otherwise


def call(place: Workplace, *words: str) -> str:
    """One command of ours on the clone."""
    done = wheelyard([*words, "--project", place.project], place.folder, place.variables)
    assert done.returncode == 0, done.stderr
    give(place)
    return done.stdout


@pytest.fixture
def absent(clone: Workplace) -> Iterator[str]:
    """The image, which the engine has under no name; its layers are there, which saves minutes."""
    client = clone.engine.client
    name = clone_image(clone)
    image = client.images.get(name)
    tags = list(image.tags)
    assert image.tag("kept", "1")
    for tag in tags:
        client.images.remove(tag)
    yield name
    for tag in tags:  # for the tests that follow, whatever became of this one
        client.images.get("kept:1").tag(*tag.rsplit(":", 1))
    client.images.remove("kept:1")


def clone_image(clone: Workplace) -> str:
    said = clone.call("read-configuration", *clone.options)
    assert said.returncode == 0, said.stderr
    return str(json.loads(said.stdout)["configuration"]["image"])


def test_an_image_is_made_loaded_opened_and_trains(clone: Workplace, absent: str) -> None:
    client = clone.engine.client
    assert not has_image(client, absent)
    first = clone.try_up()
    assert first.returncode == 0, first.stdout + first.stderr
    assert f"{absent} was made and loaded" in first.stdout + first.stderr
    assert has_image(client, absent)
    trained = clone.call("exec", *clone.options, "python", "train.py")
    assert (trained.returncode, trained.stdout.strip()) == (0, "falls"), trained.stderr
    again = clone.try_up()
    assert again.returncode == 0, again.stderr
    assert "was made" not in again.stdout + again.stderr


def test_a_published_image_is_named_and_not_made(clone: Workplace, settings: Settings) -> None:
    need_tools("docker-registry")
    (made,) = {clone_image(clone)}
    with registry(clone.folder) as host:
        address = parse_address(f"http://{host}/team")
        _matrix, upstream, plan = load_inputs(clone.project)
        entries = [replace(x, digest=DIGEST) for x in plan_entries(plan.cells, upstream, [])]
        with open_registry(address, settings, QuietReporter(None)) as opened:
            publish_catalogue(opened, entries)
        changed = call(clone, "devcontainer", "pin", "--registry", f"http://{host}/team")
    assert str(CONFIG) in changed
    assert clone_image(clone) == f"{host}/team/{made}@{DIGEST}"
    call(clone, "render", "--check")
    assert "is published" in call(clone, "devcontainer", "prepare", "pytorch")
    call(clone, "devcontainer", "unpin")
    assert clone_image(clone) == made
