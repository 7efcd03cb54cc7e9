"""A base whose packages are gone comes finished from a registry, or says where it was asked for."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from loopback import Server, serve
from tiny import Tiny, make_tiny, put_wheel

from wheelyard.cli import main
from wheelyard.console.progress import PlainReporter
from wheelyard.context import Context
from wheelyard.errors import FetchError, ToolMissingError
from wheelyard.images.assemble.record import read_record
from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.build.build import build_images
from wheelyard.images.build.report import read_report
from wheelyard.images.build.results import Built, Failed
from wheelyard.oci.address import parse_address
from wheelyard.oci.layout import Layout

pytestmark = pytest.mark.skipif(
    not Path("/lib64/ld-linux-x86-64.so.2").exists(), reason="needs Linux on x86_64"
)
needs_mmdebstrap = pytest.mark.skipif(
    shutil.which("mmdebstrap") is None, reason="not installed: mmdebstrap"
)
RUNTIME, DEVEL = "Debian bookworm, tiny-runtime", "Debian bookworm, tiny-devel, difference"


@dataclass
class Moved:
    """A project whose packages no mirror has, with the record of its layers."""

    tiny: Tiny
    digests: dict[str, str]  # of the images, by tag
    mirror: Server
    registry: Server
    folder: Path

    def build(self, **settings: object) -> tuple[list[Built | Failed], str]:
        """Build with a cache that has wheels and nothing else; results and what was said."""
        cache = self.folder / f"cache-{len(list(self.folder.iterdir()))}"
        for wheel in self.tiny.wheels.values():
            put_wheel(cache, wheel)
        chosen = replace(
            self.tiny.context.settings,
            cache_dir=cache,
            debian_mirror=f"{self.mirror.url}/debian",
            debian_snapshot="no",
            **settings,  # type: ignore[arg-type]
        )
        said = io.StringIO()
        context = Context(chosen, PlainReporter(said))
        return build_images(self.tiny.plan.cells, self.tiny.plan, cache / "dist", context), (
            said.getvalue()
        )

    @property
    def address(self) -> dict[str, object]:
        return {"registry": parse_address(self.registry.url)}

    def edit(self, title: str, **wrong: object) -> None:
        path = self.tiny.folder / "images/layers.json"
        record = json.loads(path.read_text())
        (layer,) = [x for x in record["layers"].values() if x["title"] == title]
        layer.update(wrong)
        path.write_text(json.dumps(record))


@dataclass
class Project:
    """A project with its wheels, the record of its layers, and those of Debian packages."""

    tiny: Tiny
    digests: dict[str, str]  # of the images, by tag
    blobs: dict[str, bytes]  # by digest


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("moved")
    tiny = make_tiny(folder / "tiny")
    cache, dist = tiny.context.settings.cache_dir, folder / "dist"
    results = build_images(tiny.plan.cells, tiny.plan, dist, tiny.context)
    assert all(isinstance(x, Built) for x in results), results
    places = ["--project", str(tiny.folder), "--cache-dir", str(cache), "--output", str(dist)]
    assert main(["layers", "record", "all", *places]) == 0
    digests = {tag: x.digest for tag, x in Layout(dist).references().items()}
    record, store = read_record(tiny.folder), LayerStore(cache)
    debian = [record.layers[key].digest for key, x in record.titles.items() if "Debian" in x]
    assert len(debian) == 2
    return Project(tiny, digests, {x: store.blob(x).read_bytes() for x in debian})


@pytest.fixture
def moved(project: Project, tmp_path: Path) -> Iterator[Moved]:
    record = project.tiny.folder / "images/layers.json"
    before = record.read_bytes()
    files = {f"/v2/pytorch/blobs/{digest}": data for digest, data in project.blobs.items()}
    (tmp_path / "builds").mkdir()
    with serve(Server({}, always="404")) as mirror, serve(Server(files)) as registry:
        yield Moved(project.tiny, project.digests, mirror, registry, tmp_path / "builds")
    record.write_bytes(before)


def test_the_layers_of_bases_are_recorded_alone(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(project.tiny.folder, folder)
    (folder / "images/layers.json").unlink()
    cache = project.tiny.context.settings.cache_dir
    places = ["--project", str(folder), "--cache-dir", str(cache)]
    assert main(["layers", "record", "all", "--bases-only", *places]) == 0
    record = read_record(folder)
    assert sorted(record.titles.values()) == sorted((RUNTIME, DEVEL))
    assert {layer.digest for layer in record.layers.values()} == set(project.blobs)


def no_tools(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A machine without mmdebstrap and apt."""
    monkeypatch.setenv("PATH", str(folder / "nothing"))


@needs_mmdebstrap
def test_the_registry_has_what_the_mirror_dropped(moved: Moved) -> None:
    """Both layers of Debian packages; the bytecode is compiled by the interpreter in the lower."""
    results, said = moved.build(**moved.address)
    built = [x for x in results if isinstance(x, Built)]
    assert {x.cell.tags[0]: x.image.manifest.digest for x in built} == {
        x.cell.tags[0]: moved.digests[x.cell.tags[0]] for x in built
    }
    assert [x.bases for x in built] == [
        {RUNTIME: "registry"}, {RUNTIME: "cache", DEVEL: "registry"},
    ]  # fmt: skip
    assert f"{RUNTIME}: the layer, from the registry (mirror: has dropped 2 of 2" in said
    assert len(moved.registry.requests) == 2


def test_without_debians_tools_the_registry_is_enough(
    moved: Moved, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    no_tools(monkeypatch, tmp_path)
    results, _ = moved.build(**moved.address)
    assert {tag for x in results if isinstance(x, Built) for tag in x.cell.tags} == set(
        moved.digests
    )
    assert moved.mirror.requests == []
    (failed, *_), _ = moved.build()
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, ToolMissingError)


def test_the_report_says_who_served_a_base(
    moved: Moved, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    no_tools(monkeypatch, tmp_path)
    moved.build(**moved.address)
    (output,) = moved.folder.glob("*/dist")
    assert {x["id"].rpartition("-")[2]: x["bases"] for x in read_report(output)} == {
        "runtime": {RUNTIME: "registry"}, "devel": {RUNTIME: "cache", DEVEL: "registry"},
    }  # fmt: skip


@needs_mmdebstrap
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"diff_id": f"sha256:{'5' * 64}"}, "not the recorded layer"),
        ({"unpacked_size": 7}, "not the recorded layer"),
        ({"size": 7}, "7"),
    ],
)
def test_a_layer_that_is_not_what_is_recorded_is_not_taken(
    moved: Moved, wrong: dict[str, object], says: str
) -> None:
    moved.edit(RUNTIME, **wrong)
    (failed, *_), _ = moved.build(**moved.address)
    assert isinstance(failed, Failed)
    assert says in str(failed.error)
    (cache,) = moved.folder.iterdir()
    assert list((cache / "blobs/sha256").iterdir()) == []
    assert list((cache / "files").glob("*/*/*.tar.gz")) == []


@needs_mmdebstrap
def test_every_source_that_was_asked_is_named_with_its_reason(moved: Moved) -> None:
    for name in moved.registry.files:
        moved.registry.files[name] = gzip.compress(b"something else")
    (other, *_), _ = moved.build(**moved.address)
    moved.registry.always = "404"
    (lacking, *_), _ = moved.build(**moved.address)
    moved.registry.always = "403"
    (denied, *_), _ = moved.build(**moved.address)
    (nobody, *_), _ = moved.build()
    for failed, reason in (
        (other, "the server's file has"),
        (lacking, "lacks sha256:"),
        (denied, "wheelyard login 127.0.0.1:"),
        (nobody, "registry: none is set (--registry, WHEELYARD_REGISTRY)"),
    ):
        assert isinstance(failed, Failed)
        assert isinstance(failed.error, FetchError)
        text = str(failed.error)
        assert reason in text
        assert f"{RUNTIME}: no source has its packages:\n  mirror: has dropped 2 of 2" in text
        assert "tini 1.0" in text
        assert "snapshot: neither a setting nor apt's configuration names an archive" in text
        assert "wheelyard lock --bases-only" in text


@needs_mmdebstrap
def test_a_mirror_that_is_down_is_no_reason_to_ask_a_snapshot(moved: Moved) -> None:
    """And the registry is asked, since it may be nearer."""
    moved.mirror.always = "403"
    moved.registry.always = "404"
    (failed, *_), _ = moved.build(**moved.address)
    assert isinstance(failed, Failed)
    assert "HTTP 403" in str(failed.error)
    assert "lacks sha256:" in str(failed.error)
    assert "snapshot:" not in str(failed.error)
    (alone, *_), _ = moved.build()
    assert isinstance(alone, Failed)
    assert "registry" not in str(alone.error)


@needs_mmdebstrap
def test_what_is_not_believed_is_not_asked_for(moved: Moved) -> None:
    (moved.tiny.folder / "images/layers.json").unlink()
    (failed, *_), _ = moved.build(**moved.address)
    assert isinstance(failed, Failed)
    assert "registry: not asked" in str(failed.error)
    assert moved.registry.requests == []
