"""A layer that somebody has made before is put together without inflating, and still checked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wheels import make_wheel

from wheelyard.images.assemble.worker import WheelJob, make_layer
from wheelyard.layers import toc
from wheelyard.layers.layer import AnotherLayerError, LayerWriter
from wheelyard.layers.wheels import WheelInput

FILES: dict[str, bytes | str] = {
    "demo/__init__.py": "x = 1\n",
    "demo/data.bin": bytes(range(256)) * 9000,
    "demo/e": b"",
}


@pytest.fixture
def job(tmp_path: Path) -> WheelJob:
    """A layer of two wheels, one of them not packed."""
    stored = make_wheel(tmp_path, "other", files={"other/a.txt": b"a" * 5000}, method=0)
    wheels = (make_wheel(tmp_path, files=FILES), stored)
    inputs = tuple(WheelInput(path, path.name.split("-")[0], "1.0") for path in wheels)
    return WheelJob("key", "title", inputs, "3.11", tmp_path / "blob")


def test_it_is_the_same_layer_with_the_same_contents(job: WheelJob) -> None:
    made = make_layer(job)
    blob, contents = job.scratch.read_bytes(), toc.beside(job.scratch).read_bytes()
    assert make_layer(replace(job, known=made)) == made
    assert job.scratch.read_bytes() == blob
    assert toc.beside(job.scratch).read_bytes() == contents


@pytest.mark.parametrize(
    "wrong", [{"digest": f"sha256:{'0' * 64}"}, {"size": 1}, {"unpacked_size": 512}]
)
def test_what_is_known_wrongly_is_made_as_if_unknown(job: WheelJob, wrong: dict[str, Any]) -> None:
    made = make_layer(job)
    assert make_layer(replace(job, known=replace(made, **wrong))) == made


def test_the_writer_refuses_another_layer(tmp_path: Path, job: WheelJob) -> None:
    known = make_layer(job)
    with LayerWriter(tmp_path / "another", known=known) as writer:
        writer.file("file", b"", 0o664)
        with pytest.raises(AnotherLayerError):
            writer.finish()


def test_a_damaged_wheel_does_not_pass_for_the_known_layer(job: WheelJob) -> None:
    made = make_layer(job)
    damaged = job.wheels[0].path
    data = bytearray(damaged.read_bytes())
    at = data.index(b"demo/data.bin") + 200  # inside its packed bytes
    data[at] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(Exception, match="damaged"):
        make_layer(replace(job, known=made))
