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
from wheelyard.engines.ahead import Ahead
from wheelyard.engines.parts import ClassicForm, ContainerdForm, containerd_form
from wheelyard.errors import EngineError
from wheelyard.layers.layer import Layer
from wheelyard.oci.archive import END, blob_name, stream


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

    with Ahead(ClassicForm(tmp_path, [(layers[0].diff_id,)], True), send, least=150_000) as sender:
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

    with Ahead(ClassicForm(tmp_path, [], True), send, least=200_000) as sender:
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

    with Ahead(ClassicForm(tmp_path, [], True), send, least=1) as sender:
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

    with Ahead(ClassicForm(tmp_path, [], True), send, least=1 << 30) as sender:
        sender.offer(layers[0])
    assert not started.is_set()
    assert not ended


def packed(form: ContainerdForm, layers: list[Layer], omit: int) -> dict[str, bytes]:
    """What a part holds, by name."""
    tar = b"".join(stream(form.pack(layers, omit)))
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        files = ((member.name, opened.extractfile(member)) for member in opened)
        return {name: file.read() for name, file in files if file is not None}


class TestContainerdForm:
    def test_a_part_is_an_oci_layout(self, tmp_path: Path, layers: list[Layer]) -> None:
        files = packed(containerd_form(tmp_path, tmp_path, ()), layers[:3], 1)
        (descriptor,) = json.loads(files["index.json"])["manifests"]
        manifest = json.loads(files[blob_name(descriptor["digest"])])
        assert [x["digest"] for x in manifest["layers"]] == [x.digest for x in layers[:3]]
        config = json.loads(files[blob_name(manifest["config"]["digest"])])
        assert config["rootfs"]["diff_ids"] == [x.diff_id for x in layers[:3]]
        assert [blob_name(x.digest) in files for x in layers] == [False, True, True, False]

    def test_what_a_part_brought_is_known_by_its_digest(
        self, tmp_path: Path, layers: list[Layer]
    ) -> None:
        files = packed(containerd_form(tmp_path, tmp_path, ()), layers[:2], 0)
        (descriptor,) = json.loads(files["index.json"])["manifests"]
        named = [(x.digest, x.diff_id) for x in layers]
        assert containerd_form(tmp_path, tmp_path, {descriptor["digest"]}).present(named) == 2
        assert containerd_form(tmp_path, tmp_path, {descriptor["digest"]}).present(named[1:]) == 0
        assert containerd_form(tmp_path, tmp_path, ()).present(named) == 0

    def test_an_image_of_the_layout_tells_what_the_engine_has(
        self, tmp_path: Path, layers: list[Layer]
    ) -> None:
        named = [(x.digest, x.diff_id) for x in layers]
        other = make_image(tmp_path, (), *named[:3])
        assert other.manifest is not None
        assert containerd_form(tmp_path, tmp_path, {other.manifest}).present(named) == 3
        assert containerd_form(tmp_path, tmp_path, {"sha256:" + "0" * 64}).present(named) == 0
