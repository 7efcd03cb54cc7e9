"""Parts of an image: one unpacks while the next is sent, and one that fails ends the others."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.tiny import layers_of, make_image, make_layer
from wheelyard.engines.ahead import Ahead, ClassicStore
from wheelyard.engines.load import _known_layers
from wheelyard.errors import EngineError
from wheelyard.layers.layer import Layer
from wheelyard.oci.archive import END, blob_name


@pytest.fixture
def layers(tmp_path: Path) -> list[Layer]:
    made = [make_layer(tmp_path, f"file-{x}", bytes([x]) * 100_000) for x in range(4)]
    return layers_of(tmp_path, make_image(tmp_path, (), *made))


def held(tar: bytes) -> tuple[list[str], list[str]]:
    """The layers that a part names, and those that it brings."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        manifest = opened.extractfile("manifest.json")
        assert manifest is not None
        named = json.load(manifest)[0]["Layers"]
        return named, [name for name in opened.getnames() if name in named]


def test_a_part_names_all_below_it_and_brings_its_own(tmp_path: Path, layers: list[Layer]) -> None:
    taken: list[bytes] = []
    lock = threading.Lock()

    def send(chunks: Iterator[bytes]) -> None:
        tar = b"".join(chunks)
        with lock:
            taken.append(tar)

    with Ahead(ClassicStore(tmp_path, [(layers[0].diff_id,)], True), send, least=150_000) as sender:
        for layer in layers:
            sender.offer(layer)
        sender.finish()
    names = [blob_name(layer.diff_id) for layer in layers]
    assert [held(tar) for tar in taken] == [(names[:3], names[1:3]), (names, names[3:])]


def test_the_next_part_comes_but_does_not_end_before_the_one_below(
    tmp_path: Path, layers: list[Layer]
) -> None:
    second_is_there, events = threading.Event(), list[str]()

    def send(chunks: Iterator[bytes]) -> None:
        _header, manifest = next(chunks), next(chunks)
        is_first = len(json.loads(manifest)[0]["Layers"]) == 2
        if not is_first:
            second_is_there.set()
        for chunk in chunks:
            if chunk == END:
                assert second_is_there.wait(10)
                events.append("first" if is_first else "second")

    with Ahead(ClassicStore(tmp_path, [], True), send, least=200_000) as sender:
        for layer in layers:
            sender.offer(layer)
        sender.finish()
    assert events == ["first", "second"]


def test_a_part_that_fails_ends_those_above_it(tmp_path: Path, layers: list[Layer]) -> None:
    ended: list[int] = []

    def send(chunks: Iterator[bytes]) -> None:
        named, _ = held(b"".join(chunks))
        if len(named) == 2:
            raise EngineError("the engine's disk is full")
        ended.append(len(named))

    with Ahead(ClassicStore(tmp_path, [], True), send, least=1) as sender:
        for layer in layers:
            sender.offer(layer)
        with pytest.raises(EngineError, match="disk is full"):
            sender.finish()
    assert ended == [1]


def test_leaving_early_sends_no_more(tmp_path: Path, layers: list[Layer]) -> None:
    started, ended = threading.Event(), list[bytes]()

    def send(chunks: Iterator[bytes]) -> None:
        for chunk in chunks:
            started.set()
            if chunk == END:
                ended.append(chunk)

    with Ahead(ClassicStore(tmp_path, [], True), send, least=1 << 30) as sender:
        sender.offer(layers[0])
    assert not started.is_set()
    assert not ended


def test_a_manifest_of_the_layout_tells_what_the_engine_has(
    tmp_path: Path, layers: list[Layer]
) -> None:
    image = make_image(tmp_path, (), *((x.digest, x.diff_id) for x in layers[:3]))
    assert image.manifest is not None
    assert _known_layers(tmp_path, image.manifest) == tuple(x.digest for x in layers[:3])
    assert _known_layers(tmp_path, "sha256:" + "0" * 64) == ()
    file = tmp_path / image.manifest.partition(":")[2]
    file.write_bytes(file.read_bytes() + b" ")
    assert _known_layers(tmp_path, image.manifest) == ()
