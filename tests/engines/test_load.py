"""Loading into engines old and new: what is there is not sent, and failures are their words."""

from __future__ import annotations

import io
import os
import random
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engines.conftest import CONTAINERD, KINDS, NEW, OLD, choose
from tests.engines.daemons import Engine, own_engine, small_room
from tests.engines.tiny import make_image, make_layer, store
from wheelyard.console.progress import QuietReporter
from wheelyard.engines import load as loading
from wheelyard.engines.docker import uses_containerd
from wheelyard.engines.load import load
from wheelyard.errors import EngineError
from wheelyard.oci.archive import blob_name
from wheelyard.settings import Settings
from wheelyard.system.threads import each

if TYPE_CHECKING:
    from docker import DockerClient

QUIET = QuietReporter(None)
BULK = 1 << 20  # bytes that do not compress away, to see whether a layer was sent


@pytest.fixture(name="client")
def _client(engine: Engine) -> DockerClient:
    return engine.client


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    folder = tmp_path / "blobs" / "sha256"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def name(client: DockerClient) -> Iterator[str]:
    """A repository of this test's own; its images are removed afterwards."""
    repository = f"wheelyard-test-{uuid.uuid4().hex[:12]}"
    yield repository
    for image in client.images.list(repository):
        client.images.remove(str(image.id), force=True)


def noise(seed: int) -> bytes:
    return random.Random(seed).randbytes(BULK)


def test_an_image_arrives_under_its_digest_and_all_its_tags(
    client: DockerClient, blobs: Path, name: str
) -> None:
    tags = (f"{name}:1.0", f"{name}:latest")
    image = make_image(blobs, tags, make_layer(blobs, "a", noise(1)), make_layer(blobs, "b", b"b"))
    (loaded,) = load(client, blobs, [image], QUIET)
    assert loaded.sent > BULK
    expected = image.manifest if uses_containerd(client) else image.config
    assert loaded.id == expected
    found = client.images.get(f"{name}:1.0")
    assert found.id == client.images.get(f"{name}:latest").id == expected
    assert tuple(found.attrs["RootFS"]["Layers"]) == image.diff_ids


def test_an_image_that_is_there_is_only_tagged(
    client: DockerClient, blobs: Path, name: str
) -> None:
    layer = make_layer(blobs, "a", noise(2))
    load(client, blobs, [make_image(blobs, (f"{name}:1",), layer)], QUIET)
    (again,) = load(client, blobs, [make_image(blobs, (f"{name}:1", f"{name}:2"), layer)], QUIET)
    assert again.sent == 0
    assert client.images.get(f"{name}:2").id == again.id


def test_shared_lower_layers_are_not_sent_again(
    client: DockerClient, blobs: Path, name: str
) -> None:
    below = [make_layer(blobs, "base", noise(3)), make_layer(blobs, "cuda", noise(4))]
    load(client, blobs, [make_image(blobs, (f"{name}:1",), *below)], QUIET)
    upper = make_image(blobs, (f"{name}:2",), *below, make_layer(blobs, "tools", b"small"))
    (loaded,) = load(client, blobs, [upper], QUIET)
    assert loaded.sent < 20_000
    assert tuple(client.images.get(f"{name}:2").attrs["RootFS"]["Layers"]) == upper.diff_ids


@pytest.mark.parametrize("engine", [CONTAINERD], indirect=True)
def test_an_image_on_layers_that_were_there_is_whole(
    client: DockerClient, blobs: Path, name: str
) -> None:
    """containerd would run an image that lacks a blob, and could not hand it on."""
    below = make_layer(blobs, "base", noise(9))
    load(client, blobs, [make_image(blobs, (f"{name}:1",), below)], QUIET)
    upper = make_image(blobs, (f"{name}:2",), below, make_layer(blobs, "tools", b"small"))
    load(client, blobs, [upper], QUIET)
    client.images.remove(f"{name}:1")
    saved = io.BytesIO(b"".join(client.images.get(f"{name}:2").save()))
    with tarfile.open(fileobj=saved) as tar:
        assert {blob_name(blob) for blob, _diff_id in upper.layers} <= set(tar.getnames())


def test_the_same_layer_under_another_one_is_sent(
    client: DockerClient, blobs: Path, name: str
) -> None:
    """An engine knows a layer by all layers below it."""
    first, second = make_layer(blobs, "a", noise(5)), make_layer(blobs, "b", noise(6))
    load(client, blobs, [make_image(blobs, (f"{name}:1",), first, second)], QUIET)
    (loaded,) = load(client, blobs, [make_image(blobs, (f"{name}:2",), second, first)], QUIET)
    assert loaded.sent > 2 * BULK


def test_several_loads_of_one_image_at_once_bring_it(
    client: DockerClient, blobs: Path, name: str
) -> None:
    layers = [make_layer(blobs, f"file-{x}", noise(20 + x)) for x in range(5)]
    image = make_image(blobs, (f"{name}:1",), *layers)
    each(lambda _number: load(client, blobs, [image], QUIET), range(3), 3, "load")
    assert tuple(client.images.get(f"{name}:1").attrs["RootFS"]["Layers"]) == image.diff_ids


def test_a_tag_moves_to_the_new_image(client: DockerClient, blobs: Path, name: str) -> None:
    layer = make_layer(blobs, "a", noise(7))
    load(client, blobs, [make_image(blobs, (f"{name}:1",), layer, label="old")], QUIET)
    (new,) = load(client, blobs, [make_image(blobs, (f"{name}:1",), layer, label="new")], QUIET)
    found = client.images.get(f"{name}:1")
    assert found.id == new.id
    assert found.labels == {"label": "new"}


def test_a_layer_that_is_not_its_diff_id_is_refused(
    client: DockerClient, blobs: Path, name: str
) -> None:
    blob, _diff_id = make_layer(blobs, "a", b"a")
    image = make_image(blobs, (f"{name}:1",), (blob, f"sha256:{'0' * 64}"))
    with pytest.raises(EngineError, match="the engine could not load the image"):
        load(client, blobs, [image], QUIET)


def test_a_layer_that_is_no_tar_is_refused(client: DockerClient, blobs: Path, name: str) -> None:
    rubbish = store(blobs, b"not a tar, and not gzip either")
    image = make_image(blobs, (f"{name}:1",), (rubbish, rubbish))
    with pytest.raises(EngineError, match="could not load"):
        load(client, blobs, [image], QUIET)


@pytest.mark.parametrize("engine", [OLD, NEW], indirect=True)
def test_layers_that_vanished_are_sent_after_all(
    client: DockerClient,
    blobs: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Somebody removes an image between our question and our answer."""
    layer = make_layer(blobs, "a", noise(8))
    image = make_image(blobs, (f"{name}:1",), layer, make_layer(blobs, "b", b"b"))
    monkeypatch.setattr(loading, "present_layers", lambda _client: [image.diff_ids[:1]])
    (loaded,) = load(client, blobs, [image], QuietReporter(sys.stderr))
    assert loaded.sent > BULK
    assert "sending them all" in capsys.readouterr().err


@pytest.fixture(params=KINDS)
def small_client(request: pytest.FixtureRequest, settings: Settings) -> Iterator[DockerClient]:
    """An engine with room for a few megabytes."""
    kind = choose(request.param, settings)
    with small_room(24 << 20) as room, own_engine(room, kind) as client:
        yield client


def test_a_full_disk_is_named_with_what_to_do(small_client: DockerClient, blobs: Path) -> None:
    big = make_layer(blobs, "big", os.urandom(40 * BULK))
    with pytest.raises(EngineError, match=r"disk is full: free space \(`docker system df`\)"):
        load(small_client, blobs, [make_image(blobs, ("wheelyard-test:1",), big)], QUIET)
