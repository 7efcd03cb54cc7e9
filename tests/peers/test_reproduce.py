"""A published image is built again and compared; one that was tampered with is found out."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import Tiny, make_tiny

from tests.peers.registries import registry
from wheelyard.cli import main
from wheelyard.errors import InspectError, RegistryError
from wheelyard.images.build.build import build_images

pytestmark = pytest.mark.usefixtures("at_nobodys_home")

RUNTIME = "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11"
SITE = "opt/venv/lib/python3.11/site-packages"


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    return make_tiny(tmp_path / "tiny")


@pytest.fixture
def published(tiny: Tiny, tmp_path: Path, need: Callable[..., None]) -> Iterator[str]:
    """A registry with both small images; the layout stays in tmp_path/dist."""
    need("docker-registry", "skopeo")
    build_images(tiny.plan.cells, tiny.plan, tmp_path / "dist", tiny.context)
    with registry(tmp_path) as address:
        assert run(tiny, "push", "all", address, "--output", str(tmp_path / "dist")) == 0
        yield address


def run(tiny: Tiny, command: str, what: str, address: str, *words: str) -> int:
    given = [command, what, "--registry", f"http://{address}", "--project", str(tiny.folder)]
    return main([*given, "--cache-dir", str(tiny.context.settings.cache_dir), "--quiet", *words])


def with_another_file(layout: Path, name: str, path: str) -> None:
    """Change a byte of one file in the image `name`, and every digest above it to match."""
    blobs = layout / "blobs/sha256"

    def put(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    def get(digest: str) -> bytes:
        return (blobs / digest.partition(":")[2]).read_bytes()

    index = json.loads((layout / "index.json").read_text())
    entry = next(x for x in index["manifests"] if name in x["annotations"].values())
    manifest = json.loads(get(entry["digest"]))
    config = json.loads(get(manifest["config"]["digest"]))
    for number, layer in enumerate(manifest["layers"]):
        tar = bytearray(gzip.decompress(get(layer["digest"])))
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            found = [x for x in archive if x.name.removeprefix("./") == path]
        if found:
            tar[found[0].offset_data] ^= 1
            config["rootfs"]["diff_ids"][number] = f"sha256:{hashlib.sha256(tar).hexdigest()}"
            layer |= put(gzip.compress(bytes(tar), mtime=0))
    manifest["config"] |= put(json.dumps(config).encode())
    entry |= put(json.dumps(manifest).encode())
    (layout / "index.json").write_text(json.dumps(index))


def test_a_lazy_image_is_reproduced_to_the_bit(
    published: str, tiny: Tiny, tmp_path: Path, capsys: Any
) -> None:
    output = ("--output", str(tmp_path / "dist"))
    assert run(tiny, "push", "runtime", published, *output, "--compression", "estargz") == 0
    capsys.readouterr()
    assert run(tiny, "reproduce", RUNTIME, published, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["published"] == told["built"]


def test_an_image_as_zstd_is_reproduced_by_its_files(
    published: str, tiny: Tiny, tmp_path: Path, capsys: Any
) -> None:
    """Other versions of libzstd give other bytes; config and diff_ids stay."""
    output = ("--output", str(tmp_path / "dist"))
    assert run(tiny, "push", "runtime", published, *output, "--compression", "zstd") == 0
    capsys.readouterr()
    assert run(tiny, "reproduce", RUNTIME, published, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["same"] is True
    assert told["published"] != told["built"]


def test_the_same_to_the_bit_by_tag_and_by_digest(
    tiny: Tiny, published: str, tmp_path: Path, capsys: Any
) -> None:
    assert run(tiny, "reproduce", f"{RUNTIME}-devel", published, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["same"] is True
    assert found["published"] == found["built"]
    assert run(tiny, "reproduce", f"pytorch@{found['built']}", published) == 0
    assert ": identical, " in capsys.readouterr().out


def test_a_changed_file_is_named(tiny: Tiny, published: str, tmp_path: Path, capsys: Any) -> None:
    odd = tmp_path / "odd"
    command = ["skopeo", "copy", f"oci:{tmp_path}/dist:{RUNTIME}", f"oci:{odd}:odd"]
    subprocess.run(command, check=True, capture_output=True)
    with_another_file(odd, "odd", f"{SITE}/torch/module_7.py")
    send = ["skopeo", "copy", "--dest-tls-verify=false", f"oci:{odd}:odd"]
    subprocess.run([*send, f"docker://{published}/pytorch:odd"], check=True, capture_output=True)
    assert run(tiny, "reproduce", "pytorch:odd", published) == InspectError.exit_code
    said = capsys.readouterr().out
    assert "first difference: layer" in said
    assert f"{SITE}/torch/module_7.py: the same size, other bytes" in said


def test_an_image_that_is_not_there(tiny: Tiny, published: str, capsys: Any) -> None:
    assert run(tiny, "reproduce", "pytorch:none", published) == RegistryError.exit_code
    assert "does not have pytorch:none" in capsys.readouterr().err
