"""A real image again, from an empty layer cache and in other surroundings: the same digest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.image.layout import BuiltImage
from tests.peers.command import wheelyard
from tests.peers.project import REPOSITORY, digest_of, link_tree, machine_cache

ELSEWHERE = {"TZ": "Asia/Kathmandu", "LANG": "de_DE.UTF-8", "LC_ALL": "C", "PYTHONHASHSEED": "7"}


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder with a blank in its name, and an empty cache that has the downloads."""
    parent = Path(request.config.getoption("--scratch") or tmp_path)
    made = parent / "else where"
    made.mkdir()
    if (machine_cache() / "files").exists():
        link_tree(machine_cache() / "files", made / "cache/files")
    yield made
    shutil.rmtree(made)


def test_a_real_image_made_again_is_the_same(
    runtime_image: BuiltImage, folder: Path, need_root: None, need: Callable[..., None]
) -> None:
    """Base, layers and bytecode are all made anew, by one worker."""
    need("mmdebstrap")
    given: list[str | Path] = ["build", runtime_image.id, "--no-load", "--workers", "1"]
    given += ["--project", REPOSITORY, "--output", folder / "dist", "--cache-dir", folder / "cache"]
    result = wheelyard(given, folder, {**ELSEWHERE, "TMPDIR": str(folder)}, umask=0o077)
    assert result.returncode == 0, result.stderr
    (made,) = json.loads((folder / "dist/build.json").read_text())["images"]
    expected = json.loads((runtime_image.dist / "build.json").read_text())["images"]
    (old,) = [image for image in expected if image["id"] == made["id"]]
    assert made["layers"] == old["layers"]
    assert digest_of(folder / "dist") == runtime_image.digest
