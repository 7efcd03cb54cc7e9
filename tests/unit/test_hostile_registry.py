"""A registry that lies: nothing outside the cache is written, and nothing taken unhashed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from answering import Answer, Asked, answering
from tiny import Tiny, make_tiny, put_wheel

from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.errors import BaseImageError, RegistryError, WheelyardError
from wheelyard.images.build.build import build_images
from wheelyard.images.build.results import Failed
from wheelyard.oci.address import parse_address
from wheelyard.oci.layout import INDEX_TYPE, MANIFEST_TYPE, digest_of
from wheelyard.planning.plan import load_plan
from wheelyard.publish.reproduce import read_published
from wheelyard.registry.client import open_registry

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
CLIMBS = ("../../..", "../../../victim", "/etc/passwd", "sha256:../../../victim")
NONE = (
    *CLIMBS, "latest", f"sha512:{'0' * 128}", f"md5:{'0' * 32}", f"sha256:{'A' * 64}", "", 7, None,
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def dump(content: Any) -> bytes:
    return json.dumps(content).encode()


def config(**changes: Any) -> bytes:
    return dump({"rootfs": {"type": "layers", "diff_ids": [digest_of(b"x")]}, **changes})


def manifest(config_digest: Any = None, layer: Any = None) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"digest": config_digest or digest_of(config()), "size": 1},
        "layers": [{"mediaType": GZIP, "digest": layer or digest_of(b"layer"), "size": 5}],
    }


def lies(text: Any) -> dict[str, dict[str, Any]]:
    """Top-level documents in which something is no digest."""
    entry = {"digest": text, "platform": {"os": "linux", "architecture": "amd64"}}
    made = manifest()
    return {
        "config": made | {"config": {"digest": text, "size": 1}},
        "layer": made | {"layers": [{"mediaType": GZIP, "digest": text, "size": 5}]},
        "index": {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]},
    }


def serving(documents: Mapping[str, bytes]) -> Callable[[Asked], Answer]:
    """Whatever is asked for by its digest; anything else gets a config, whatever its name."""

    def answer(asked: Asked) -> Answer:
        name = asked.path.rpartition("/")[2]
        return Answer(body=[documents.get(name, config())])

    return answer


def build(tiny: Tiny, image: str, folder: Path) -> WheelyardError:
    """How a build on that image fails."""
    path = tiny.folder / "matrix.yaml"
    matrix = yaml.safe_load(path.read_text())
    matrix["bases"]["tiny"]["image"] = image
    path.write_text(yaml.safe_dump(matrix))
    cache = folder / "a" / "b" / "cache"
    for wheel in tiny.wheels.values():
        put_wheel(cache, wheel)
    context = Context(replace(tiny.context.settings, cache_dir=cache), QuietReporter(None))
    plan = load_plan(tiny.folder)
    cell = next(cell for cell in plan.cells if cell.flavour.name == "runtime")
    (failed,) = build_images([cell], plan, folder / "dist", context)
    assert isinstance(failed, Failed)
    return failed.error


@pytest.mark.parametrize("where", ["config", "layer", "index"])
@pytest.mark.parametrize("text", NONE, ids=str)
def test_what_is_no_digest_is_no_image(tiny: Tiny, tmp_path: Path, where: str, text: Any) -> None:
    (tmp_path / "victim.json").write_bytes(b"safe")
    (tmp_path / "a").mkdir()
    top = dump(lies(text)[where])
    documents = {digest_of(top): top, digest_of(config()): config()}
    with answering(serving(documents)) as registry:
        host = registry.url.partition("://")[2]
        error = build(tiny, f"{host}/x@{digest_of(top)}", tmp_path)
        asked = [one.path for one in registry.asked]
    assert isinstance(error, BaseImageError | RegistryError)
    assert "digest" in str(error)
    assert not [path for path in asked if ".." in path or "sha512" in path or "latest" in path]
    assert (tmp_path / "victim.json").read_bytes() == b"safe"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    inside = (tmp_path / "a/b/cache", tmp_path / "dist")
    outside = [path for path in files if not any(path.is_relative_to(one) for one in inside)]
    assert outside == [tmp_path / "victim.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"[]", b"7", b'"x"', b"null", b"{}", b"{", b"\xff", b"[" * 100_000,
        b'{"config": 7, "layers": []}', b'{"config": {}, "layers": {}}',
        dump({"mediaType": INDEX_TYPE}), dump({"mediaType": INDEX_TYPE, "manifests": [7]}),
        dump({"mediaType": INDEX_TYPE, "manifests": [{"platform": "linux"}]}),
        dump(manifest() | {"layers": [7]}), dump(manifest() | {"layers": []}),
        dump(manifest() | {"layers": [{"digest": digest_of(b""), "mediaType": 7, "size": "x"}]}),
    ],
    ids=range(16),
)  # fmt: skip
def test_what_is_no_manifest_is_no_image(tiny: Tiny, tmp_path: Path, content: bytes) -> None:
    documents = {digest_of(content): content, digest_of(config()): config()}
    with answering(serving(documents)) as registry:
        host = registry.url.partition("://")[2]
        error = build(tiny, f"{host}/x@{digest_of(content)}", tmp_path)
    assert isinstance(error, BaseImageError | RegistryError)


@pytest.mark.parametrize("which", ["manifest", "config"])
def test_what_is_not_what_its_digest_says_is_refused(
    tiny: Tiny, tmp_path: Path, which: str
) -> None:
    top = dump(manifest())
    documents = {digest_of(top): top, digest_of(config()): config()}
    name = digest_of(top) if which == "manifest" else digest_of(config())
    documents[name] += b" "
    with answering(serving(documents)) as registry:
        host = registry.url.partition("://")[2]
        error = build(tiny, f"{host}/x@{digest_of(top)}", tmp_path)
    assert "does not match its digest" in str(error)


@pytest.mark.parametrize("which", ["config", "layer"])
@pytest.mark.parametrize("text", [*CLIMBS, "latest"])
def test_reproduce_takes_neither_a_path_nor_a_tag(tiny: Tiny, which: str, text: str) -> None:
    """The published image's manifest names what is fetched, and where it is put."""
    with answering(serving({"latest": dump(lies(text)[which])})) as registry:
        address = parse_address(registry.url)
        with (
            open_registry(address, tiny.context.settings, QuietReporter(None)) as client,
            pytest.raises(RegistryError, match="SHA-256"),
        ):
            read_published(client, "x", "latest", "x:latest")
        assert len(registry.asked) == 1
