"""Layers in parts: what an engine has while they come, when they do not, and afterwards."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from docker import DockerClient

from tests.engines.conftest import NEW, OLD
from tests.engines.test_load import BULK, noise
from tests.engines.test_load import _client as _client
from tests.engines.test_load import blobs as blobs
from tests.engines.test_load import name as name
from tests.engines.test_load import small_client as small_client
from tests.engines.tiny import layers_of, make_image, make_layer, sized
from wheelyard.console.progress import QuietReporter
from wheelyard.engines.ahead import PART_LABEL
from wheelyard.engines.load import ahead, load
from wheelyard.errors import EngineError, StorageError
from wheelyard.oci.archive import LoadableImage
from wheelyard.system.threads import Helper

QUIET = QuietReporter(None)
# containerd's store takes an image whole.
in_classic_stores = pytest.mark.parametrize("engine", [OLD, NEW], indirect=True)


def parts(client: DockerClient) -> int:
    return len(client.api.images(all=True, filters={"label": PART_LABEL}))


def five(blobs: Path, name: str, seed: int) -> LoadableImage:
    layers = [make_layer(blobs, f"file-{x}", noise(seed + x)) for x in range(5)]
    return sized(blobs, make_image(blobs, (f"{name}:1", f"{name}:2"), *layers))


def test_an_image_in_parts_is_the_image(client: DockerClient, blobs: Path, name: str) -> None:
    image = five(blobs, name, 100)
    (loaded,) = load(client, blobs, [image], QUIET, part=2 * BULK)
    found = client.images.get(f"{name}:2")
    assert found.id == loaded.id
    assert tuple(found.attrs["RootFS"]["Layers"]) == image.diff_ids
    assert loaded.sent > 5 * BULK
    assert parts(client) == 0


@in_classic_stores
def test_layers_arrive_before_their_image(client: DockerClient, blobs: Path, name: str) -> None:
    image = five(blobs, name, 110)
    with ahead(client, blobs, name, QUIET, part=2 * BULK) as sender:
        for layer in layers_of(blobs, image)[:3]:
            sender.offer(layer)
        sender.finish()
    assert parts(client) == 2
    (loaded,) = load(client, blobs, [image], QUIET)
    assert 2 * BULK < loaded.sent < 3 * BULK
    assert parts(client) == 0


@in_classic_stores
def test_what_the_engine_has_is_not_sent(client: DockerClient, blobs: Path, name: str) -> None:
    image = five(blobs, name, 120)
    load(client, blobs, [image], QUIET)
    with ahead(client, blobs, name, QUIET, part=BULK) as sender:
        for layer in layers_of(blobs, image):
            sender.offer(layer)
        sender.finish()
        assert sender.sent == 0


@in_classic_stores
def test_leaving_early_keeps_what_has_arrived(client: DockerClient, blobs: Path, name: str) -> None:
    """As Ctrl-C does; the next load goes on from there."""
    image = five(blobs, name, 130)
    with ahead(client, blobs, name, QUIET, part=BULK) as sender:
        for layer in layers_of(blobs, image)[:2]:
            sender.offer(layer)
        while parts(client) < 2:
            threading.Event().wait(0.05)
    assert parts(client) == 2
    (loaded,) = load(client, blobs, [image], QUIET, part=BULK)
    assert 3 * BULK < loaded.sent < 4 * BULK
    assert parts(client) == 0


def bring(client: DockerClient, blobs: Path, image: LoadableImage) -> None:
    """Load an image as a build does: its layers ahead of it."""
    with ahead(client, blobs, image.tags[0], QUIET, part=BULK) as sender:
        for layer in layers_of(blobs, image):
            sender.offer(layer)
        sender.finish()
    load(client, blobs, [image], QUIET, part=BULK)


@in_classic_stores
def test_parts_go_that_came_after_another_build_brought_the_image(
    client: DockerClient, blobs: Path, name: str
) -> None:
    image = five(blobs, name, 160)
    with ahead(client, blobs, name, QUIET, part=BULK) as slower:
        bring(client, blobs, image)
        for layer in layers_of(blobs, image)[:3]:
            slower.offer(layer)
        slower.finish()
    load(client, blobs, [image], QUIET)
    assert parts(client) == 0
    assert tuple(client.images.get(f"{name}:1").attrs["RootFS"]["Layers"]) == image.diff_ids


@in_classic_stores
def test_builds_that_load_one_image_at_once_leave_no_parts(
    client: DockerClient, blobs: Path, name: str
) -> None:
    image = five(blobs, name, 170)
    helpers = [Helper(lambda: bring(client, blobs, image), f"build-{x}") for x in range(3)]
    for helper in helpers:
        helper.start()
    for helper in helpers:
        helper.join()
        helper.require()
    assert parts(client) == 0
    assert tuple(client.images.get(f"{name}:1").attrs["RootFS"]["Layers"]) == image.diff_ids


def test_a_blob_that_is_damaged_is_named(client: DockerClient, blobs: Path, name: str) -> None:
    """The engine's own words tell of no file; the next build looks at what was touched."""
    image = five(blobs, name, 180)
    blob = blobs / image.layers[1][0].removeprefix("sha256:")
    right = blob.read_bytes()
    data = bytearray(right)
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    for part in (BULK, 1 << 40):
        with pytest.raises(StorageError, match=f"{blob.name}: damaged .* `wheelyard build`"):
            load(client, blobs, [image], QUIET, part=part)
    blob.write_bytes(right)
    (loaded,) = load(client, blobs, [image], QUIET, part=BULK)
    assert loaded.sent > 4 * BULK  # containerd lists an image that it has refused a layer of
    assert parts(client) == 0


@in_classic_stores
def test_a_blob_that_is_missing_ends_it(client: DockerClient, blobs: Path, name: str) -> None:
    image = five(blobs, name, 140)
    layers = layers_of(blobs, image)
    (blobs / layers[2].digest.removeprefix("sha256:")).unlink()
    with ahead(client, blobs, name, QUIET, part=BULK) as sender:
        for layer in layers:
            sender.offer(layer)
        with pytest.raises(StorageError, match="is missing from the image layout"):
            sender.finish()
    assert not client.images.list(name)


def test_a_layer_that_is_another_ends_it(client: DockerClient, blobs: Path, name: str) -> None:
    blob, _diff_id = make_layer(blobs, "b", noise(151))
    layers = [make_layer(blobs, "a", noise(150)), (blob, f"sha256:{'0' * 64}")]
    image = sized(blobs, make_image(blobs, (f"{name}:1",), *layers))
    with pytest.raises(EngineError, match="the engine could not load the image"):
        load(client, blobs, [image], QUIET, part=BULK)
    assert not client.images.list(name)


def test_a_disk_that_gets_full_between_parts_is_named(
    small_client: DockerClient, blobs: Path
) -> None:
    layers = [make_layer(blobs, f"part-{x}", os.urandom(8 * BULK)) for x in range(4)]
    image = sized(blobs, make_image(blobs, ("wheelyard-test:1",), *layers))
    with pytest.raises(EngineError, match=r"disk is full: free space \(`docker system df`\)"):
        load(small_client, blobs, [image], QUIET, part=8 * BULK)
