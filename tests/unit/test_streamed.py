"""Layers are made of wheels that are there while others are still on their way."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from locking import Index
from tiny import Tiny, make_tiny

from wheelyard.images.assemble.streamed import StreamedInputs
from wheelyard.images.build.build import build_images
from wheelyard.images.build.results import Built, Failed

pytestmark = pytest.mark.skipif(
    not Path("/lib64/ld-linux-x86-64.so.2").exists(), reason="needs Linux on x86_64"
)
PATIENCE = 30.0  # seconds until a test gives up waiting for what should come


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    """A project whose base is made, and whose wheels are to be fetched."""
    made = make_tiny(tmp_path / "tiny")
    shutil.rmtree(made.context.settings.cache_dir / "files")
    return made


@pytest.fixture
def index(tiny: Tiny, tmp_path: Path) -> Index:
    index = Index(tmp_path / "index")
    for path in tiny.wheels.values():
        shutil.copy(path, index.folder / "files")
    return index


def build(tiny: Tiny, url: str, output: Path) -> Built | Failed:
    settings = replace(tiny.context.settings, index_url=url)
    context = replace(tiny.context, settings=settings)
    (result,) = build_images([tiny.cell("runtime")], tiny.plan, output, context)
    return result


def layers(tiny: Tiny) -> int:
    return len(list((tiny.context.settings.cache_dir / "layers").iterdir()))


def until(happened: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_layers_of_what_is_there_are_made_before_the_last_wheel_comes(
    tiny: Tiny, index: Index, tmp_path: Path
) -> None:
    before, seen = layers(tiny), list[bool]()

    def hold_torch(path: str, agent: str) -> None:
        if "torch-" in path and not agent.startswith("uv/"):
            seen.append(until(lambda: layers(tiny) >= before + 3))

    index.before = hold_torch
    with index.serve() as url:
        result = build(tiny, url, tmp_path / "dist")
    assert isinstance(result, Built), result
    assert seen
    assert all(seen)  # a slow machine asks again
    assert {"fetch", "layers"} <= result.seconds.keys()


def test_what_does_not_come_fails_the_image_and_the_layers_made_stay(
    tiny: Tiny, index: Index, tmp_path: Path
) -> None:
    before = layers(tiny)
    torch = index.folder / "files" / tiny.wheels["torch"].name
    kept = torch.read_bytes()

    def break_torch(path: str, agent: str) -> None:
        if "torch-" in path and not agent.startswith("uv/"):
            torch.write_bytes(b"no wheel")

    index.before = break_torch
    with index.serve() as url:
        result = build(tiny, url, tmp_path / "dist")
        assert isinstance(result, Failed)
        assert "torch-2.3.1" in str(result.error)
        assert until(lambda: layers(tiny) >= before + 3)
        torch.write_bytes(kept)
        index.before = lambda _path, _agent: None
        assert isinstance(build(tiny, url, tmp_path / "dist"), Built)


def test_leaving_early_stops_the_fetch_and_waits_for_it() -> None:
    ended = threading.Event()

    def fetch(_arrived: object, stop: threading.Event) -> None:
        if stop.wait(PATIENCE):
            ended.set()

    with StreamedInputs({}, fetch) as streamed:
        assert not streamed.is_over()
    assert ended.is_set()
    assert streamed.is_over()
