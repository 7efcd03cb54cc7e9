"""Layers as zstd: another manifest of the same files, packed once; podman fetches what it lacks."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import Tiny, put_wheel, write_lock
from wheels import make_wheel

from tests.peers.partial import Partial
from tests.peers.pushed import RUNTIME, digest_there, layout_digest
from wheelyard.cli import main
from wheelyard.errors import StorageError, UsageError
from wheelyard.images.build.build import build_images
from wheelyard.images.build.results import Built
from wheelyard.layers import zstdchunked
from wheelyard.oci.layout import Layout

pytestmark = pytest.mark.usefixtures("at_nobodys_home", "registry_tools")
CUDNN = "Requires-Dist: nvidia-cudnn-cu12==8.9.2.26\n"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"


@pytest.fixture
def run(tiny: Tiny, address: str, tiny_dist: Path) -> Callable[..., int]:
    """A command on the small images, with the cache they were built in."""

    def call(*words: str | Path, cache: Path | None = None) -> int:
        given = [*words, "--project", tiny.folder, "--registry", f"http://{address}"]
        given += ["--cache-dir", cache or tiny.context.settings.cache_dir]
        return main([*map(str, given)])

    return call


@pytest.fixture
def push(run: Callable[..., int], tiny_dist: Path) -> Callable[..., int]:
    def call(*words: str | Path, cache: Path | None = None) -> int:
        options = ("--output", tiny_dist, "--compression", "zstd", "--json")
        return run("push", *options, *words, cache=cache)

    return call


def pull(address: str, target: str, *options: str) -> None:
    """Let skopeo copy the image, which checks every digest."""
    command = [
        "skopeo",
        "copy",
        "--src-tls-verify=false",
        *options,
        f"docker://{address}/{RUNTIME}",
    ]
    done = subprocess.run([*command, target], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_another_compression_of_the_same_files(
    push: Callable[..., int], address: str, tiny_dist: Path, tmp_path: Path, capsys: Any
) -> None:
    assert push("runtime") == 0
    said = capsys.readouterr()
    (told,) = json.loads(said.out)
    assert "no documents were attached" not in said.err
    assert digest_there(address, RUNTIME) == told["digest"] != layout_digest(tiny_dist)
    layout = Layout(tmp_path / "pulled")
    pull(address, f"oci:{layout.folder}:x")
    manifest = layout.read_json(layout.references()["x"].digest)
    ours = Layout(tiny_dist).read_json(layout_digest(tiny_dist))
    assert manifest["config"] == ours["config"]
    assert {layer["mediaType"] for layer in manifest["layers"]} == {ZSTD}
    chunked = {zstdchunked.CHECKSUM, zstdchunked.POSITION, zstdchunked.TAR_SPLIT}
    assert all(layer["annotations"].keys() == chunked for layer in manifest["layers"])
    unpacked = tmp_path / "unpacked"
    pull(address, f"dir:{unpacked}", "--dest-decompress")
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in unpacked.iterdir()}
    diff_ids = layout.read_json(manifest["config"]["digest"])["rootfs"]["diff_ids"]
    assert {diff_id.partition(":")[2] for diff_id in diff_ids} < hashes


def test_packed_once(push: Callable[..., int], tiny: Tiny, capsys: Any) -> None:
    assert push("runtime") == 0
    (first,) = json.loads(capsys.readouterr().out)
    blobs = tiny.context.settings.cache_dir / "blobs/sha256"
    before = {path.name: path.stat().st_mtime_ns for path in blobs.iterdir()}
    assert push("runtime") == 0
    said = capsys.readouterr()
    (second,) = json.loads(said.out)
    assert second["digest"] == first["digest"]
    assert second["sent_bytes"] == 0
    assert second["moved"] == []
    assert "zstd layers" not in said.err
    assert {path.name: path.stat().st_mtime_ns for path in blobs.iterdir()} == before


def test_what_is_known_is_packed_without_a_layout(
    run: Callable[..., int], push: Callable[..., int], tiny_dist: Path, tmp_path: Path, capsys: Any
) -> None:
    assert run("layers", "record", "runtime", "--output", tiny_dist) == 0
    assert push("runtime") == 0
    capsys.readouterr()
    options = ("--output", tmp_path / "none", "--compression", "zstd", "--json")
    assert run("push", "runtime", "--known", *options) == 0
    (known,) = json.loads(capsys.readouterr().out)
    assert known["sent_bytes"] == 0
    assert known["moved"] == []


def test_a_damaged_layer_is_not_packed(
    push: Callable[..., int], address: str, tiny_dist: Path, tmp_path: Path, capsys: Any
) -> None:
    layout = Layout(tiny_dist)
    manifest = layout.read_json(layout_digest(tiny_dist))
    blob = layout.blob(max(manifest["layers"], key=lambda x: x["size"])["digest"])
    whole = blob.read_bytes()
    data = bytearray(whole)
    data[len(data) // 2] ^= 0xFF
    blob.unlink()  # the cache has the same file
    blob.write_bytes(data)
    code = push("runtime", cache=tmp_path / "cache")
    blob.write_bytes(whole)
    assert code == StorageError.exit_code
    assert ": damaged (" in capsys.readouterr().err
    assert digest_there(address, RUNTIME) is None
    assert not list((tmp_path / "cache/tmp").glob("*/[!.]*"))


def test_a_bundle_keeps_its_layers(push: Callable[..., int], tmp_path: Path) -> None:
    assert push("runtime", "--layout", tmp_path / "x.tar") == UsageError.exit_code


@pytest.fixture
def partial(trixie_tools: Path, address: str, tmp_path: Path) -> Partial:
    return Partial(trixie_tools, tmp_path / "podman", tmp_path / "registry.log")


def layers_there(address: str, name: str) -> list[dict[str, Any]]:
    command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{address}/{name}"]
    done = subprocess.run(command, check=True, capture_output=True)
    return list(json.loads(done.stdout)["layers"])


def test_podman_fetches_only_the_files_that_it_lacks(
    push: Callable[..., int], partial: Partial, tiny: Tiny, address: str, tmp_path: Path
) -> None:
    """The same wheel with one file changed is another layer; its large file is there already."""
    assert push("runtime") == 0
    _, sent = partial.pull(f"{address}/{RUNTIME}")
    old = {layer["digest"]: layer["size"] for layer in layers_there(address, RUNTIME)}
    assert old.keys() < sent.keys()

    library = random.Random(1).randbytes(3_000_000)
    for version in "12":
        files: dict[str, bytes | str] = {
            "torch/__init__.py": "",
            "torch/version.py": "__version__ = '2.3.1+cu121'\ncuda = '12.1'\n",
            "torch/lib/libtorch.so": library,
            "torch/changed.py": f"VERSION = {version}\n",
            f"torch/{'long-name/' * 15}größe.txt": "a header of several blocks",
        }
        wheel = make_wheel(tmp_path, "torch", "2.3.1", files, metadata=CUDNN)
        put_wheel(tiny.context.settings.cache_dir, wheel)
        others = [path for name, path in tiny.wheels.items() if name not in ("demo", "torch")]
        cell = tiny.cell("runtime")
        lock = (tiny.folder / cell.lock).read_text()
        write_lock(tiny, cell, [*others, wheel])
        dist = tmp_path / f"dist-{version}"
        (built,) = build_images([cell], tiny.plan, dist, tiny.context)
        (tiny.folder / cell.lock).write_text(lock)
        assert isinstance(built, Built), built
        assert push("runtime", "--unverified", "--output", dist) == 0
        done, sent = partial.pull(f"{address}/{RUNTIME}")
        assert done.returncode == 0, done.stderr[-2000:]
        largest = max(
            (x for x in layers_there(address, RUNTIME) if x["digest"] not in old),
            key=lambda layer: int(layer["size"]),
        )
        assert largest["size"] > 3_000_000
        if version == "1":
            assert sent[largest["digest"]] > 3_000_000
        else:
            assert 0 < sent[largest["digest"]] < 20_000
            assert f"Retrieved partial blob {largest['digest']}" in done.stderr


def test_podman_notices_another_content(
    push: Callable[..., int], partial: Partial, address: str, tmp_path: Path
) -> None:
    assert push("runtime") == 0
    largest = max(layers_there(address, RUNTIME), key=lambda layer: int(layer["size"]))
    sha256 = largest["digest"].partition(":")[2]
    blob = tmp_path / f"registry/docker/registry/v2/blobs/sha256/{sha256[:2]}/{sha256}/data"
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 0xFF
    blob.write_bytes(data)
    done, _ = partial.pull(f"{address}/{RUNTIME}")
    assert done.returncode != 0
    assert largest["digest"] in done.stderr
