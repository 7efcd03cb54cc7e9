"""Layers as zstd: another manifest of the same files, packed once."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import Tiny

from tests.peers.pushed import RUNTIME, digest_there, layout_digest
from wheelyard.cli import main
from wheelyard.errors import StorageError, UsageError
from wheelyard.oci.layout import Layout

pytestmark = pytest.mark.usefixtures("at_nobodys_home", "registry_tools")
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
        options = ("--compression", "zstd", "--json", "--output", tiny_dist)
        return run("push", *words, *options, cache=cache)

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
