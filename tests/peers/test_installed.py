"""The wheel, run by pipx on a server that has nothing: no project, no settings, an empty home."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tiny import Tiny

from tests.peers.project import REPOSITORY
from tests.peers.pushed import RUNTIME, layout_digest
from wheelyard.cli import main
from wheelyard.planning.plan import load_plan
from wheelyard.system.tools import find_tool

TIMEOUT = 300


@pytest.fixture(scope="module")
def uv(need: Callable[..., None]) -> str:
    beside = Path(sys.executable).with_name("uv")
    if not beside.exists():
        need("uv")
    return str(beside if beside.exists() else find_tool("uv"))


@pytest.fixture(scope="module")
def wheel(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as for a release, from the files that git knows."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "matrix.yaml"):
        shutil.copy(REPOSITORY / name, folder)
    for name in ("builder", "templates", "images", "devcontainer"):
        leave_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(REPOSITORY / name, folder / name, ignore=leave_out)
    argv = [uv, "build", "--wheel", "--quiet", "--out-dir", str(folder / "out"), str(folder)]
    subprocess.run(argv, check=True, timeout=TIMEOUT)
    (made,) = (folder / "out").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home and working folder; what pipx installs there serves the module's other tests."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def pipx(uv: str, wheel: Path, empty: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`pipx run wheelyard ...` with the wheel in the place of the index's."""
    kept = {name: x for name, x in os.environ.items() if not name.startswith(("WHEELYARD_", "XDG"))}
    env = {**kept, "HOME": str(empty), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    env.pop("PYTHONPATH", None)

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [uv, "tool", "run", "--quiet", "pipx", "run", "--quiet", "--spec", str(wheel)]
        return subprocess.run(
            [*argv, "wheelyard", *words],
            check=False, capture_output=True, text=True, env=env, cwd=empty, timeout=TIMEOUT,
        )  # fmt: skip

    return call


def test_it_holds_every_file_of_the_code(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        there = set(archive.namelist())
    wanted = {
        str(path.relative_to(REPOSITORY / "builder"))
        for path in (REPOSITORY / "builder" / "wheelyard").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= there


@pytest.mark.usefixtures("registry_tools")
def test_pick_and_deploy_read_the_published_catalogue(
    pipx: Callable[..., subprocess.CompletedProcess[str]],
    tiny: Tiny,
    tiny_dist: Path,
    address: str,
    empty: Path,
) -> None:
    where = ("--registry", f"http://{address}/team")
    words = ["push", "all", *where, "--project", str(tiny.folder), "--output", str(tiny_dist)]
    cache = ["--cache-dir", str(tiny.context.settings.cache_dir), "--quiet"]
    assert main([*words, *cache]) == 0
    done = pipx("pick", *where, "--driver", "535.104", "--gpu", "sm_80", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["image"] == f"{address}/team/{RUNTIME}"
    assert found["digest"] == layout_digest(tiny_dist)
    assert found["pull_bytes"] == found["image_bytes"] > 1_000_000
    written = pipx("deploy", found["id"], "--kind", "compose", "--output", "lab", *where)
    assert written.returncode == 0, written.stderr
    service = yaml.safe_load((empty / "lab/compose.yaml").read_text())["services"]["pytorch"]
    assert service["image"] == f"{address}/team/pytorch@{found['digest']}"
    assert [x.name for x in empty.iterdir() if not x.name.startswith(".")] == ["lab"]


def test_without_a_registry_it_picks_from_the_set_that_it_came_with(
    pipx: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = pipx("pick", "--driver", "535.104", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["id"] in {cell.id for cell in load_plan(REPOSITORY).cells}
    assert "these are the images that wheelyard was installed with" in done.stderr
