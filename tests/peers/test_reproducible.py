"""A real image again, from an empty layer cache and in other surroundings: the same digest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.image.layout import BuiltImage
from tests.lend import link_tree
from tests.peers.command import wheelyard
from tests.peers.project import REPOSITORY, digest_of, machine_cache

ELSEWHERE = {"TZ": "Asia/Kathmandu", "LANG": "de_DE.UTF-8", "LC_ALL": "C", "PYTHONHASHSEED": "7"}


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder with a blank in its name, and an empty cache that has the downloads.

    Its path is short: the sockets of worker processes are below it, and Linux allows 107 bytes.
    """
    parent = Path(request.config.getoption("--scratch") or tmp_path.parent)
    made = parent / "else where"
    made.mkdir()
    if (machine_cache() / "files").exists():
        link_tree(machine_cache() / "files", made / "cache/files")
    yield made
    shutil.rmtree(made)


def build(image: BuiltImage, dist: Path, cache: Path, *options: str, **how: Any) -> None:
    given: list[str | Path] = ["build", image.id, "--no-load", *options, "--output", dist]
    result = wheelyard([*given, "--project", REPOSITORY, "--cache-dir", cache], dist.parent, **how)
    assert result.returncode == 0, result.stderr


def layers(dist: Path, image: BuiltImage) -> Any:
    """What the build's report says about the image's layers."""
    report = json.loads((dist / "build.json").read_text())["images"]
    return next(entry["layers"] for entry in report if entry["id"] == image.id)


def test_a_real_image_made_again_is_the_same(
    runtime_image: BuiltImage, folder: Path, need_root: None, need: Callable[..., None]
) -> None:
    """Base, layers and bytecode are all made anew, by one worker."""
    need("mmdebstrap")
    build(runtime_image, folder / "known", machine_cache())
    stale = "dist was built from another state of this checkout; run `make build` first"
    assert digest_of(folder / "known") == runtime_image.digest, stale
    environment = {**ELSEWHERE, "TMPDIR": str(folder)}
    build(
        runtime_image,
        folder / "dist",
        folder / "cache",
        "--workers",
        "1",
        env=environment,
        umask=0o077,
    )
    assert layers(folder / "dist", runtime_image) == layers(runtime_image.dist, runtime_image)
    assert digest_of(folder / "dist") == runtime_image.digest
