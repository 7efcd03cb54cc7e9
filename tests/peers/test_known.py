"""Publishing by knowledge: what a record says of layers is enough where the registry has them."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tiny import Tiny, write_lock
from wheels import make_wheel

from tests.peers.faulty import Faulty, faulty
from tests.peers.pushed import RUNTIME, assert_whole, digest_there, layout_digest
from tests.peers.registries import registry
from wheelyard.cli import main
from wheelyard.errors import InspectError, LockError, UsageError
from wheelyard.oci.layout import Layout

pytestmark = pytest.mark.usefixtures("at_nobodys_home", "registry_tools")
LAYERS = "images/layers.json"


@dataclass
class Place:
    """A project whose images were built and recorded, and a machine that has never built them."""

    tiny: Tiny
    dist: Path
    fresh: Path  # an empty cache
    line: Faulty  # to the registry

    def run(self, *words: str | Path, cache: Path | None = None) -> int:
        given = [*words, "--project", self.tiny.folder, "--cache-dir", cache or self.fresh]
        return main([*map(str, given)])

    def push(self, *words: str | Path, cache: Path | None = None) -> int:
        where = ("--registry", f"http://{self.line.address}", "--json", "--output", self.dist)
        return self.run("push", *words, *where, cache=cache)

    @property
    def warm(self) -> Path:
        return self.tiny.context.settings.cache_dir

    @property
    def record(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.tiny.folder / LAYERS).read_text())
        return content

    def write(self, record: dict[str, Any]) -> None:
        (self.tiny.folder / LAYERS).write_text(json.dumps(record))


@pytest.fixture
def place(tiny: Tiny, tiny_dist: Path, tmp_path: Path, capsys: Any) -> Iterator[Place]:
    own = replace(tiny, folder=tmp_path / "project")  # its locks and its record may be changed
    shutil.copytree(tiny.folder, own.folder)
    with registry(tmp_path) as address, faulty(address) as line:
        found = Place(own, tiny_dist, tmp_path / "fresh", line)
        assert found.run("layers", "record", "all", "--output", tiny_dist, cache=found.warm) == 0
        capsys.readouterr()
        yield found


def results(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


class TestTheRecord:
    def test_names_every_layer_but_the_topmost(self, place: Place) -> None:
        layout = Layout(place.dist)
        wanted = set()
        for reference in layout.references().values():
            manifest = layout.read_json(reference.digest)
            wanted |= {layer["digest"] for layer in manifest["layers"][:-1]}
        assert {layer["digest"] for layer in place.record["layers"].values()} == wanted
        assert set(place.record["images"]) == {cell.id for cell in place.tiny.plan.cells}

    def test_is_the_same_file_when_written_again(self, place: Place) -> None:
        before = (place.tiny.folder / LAYERS).read_bytes()
        words = ("layers", "record", "runtime", "--output", place.dist)
        assert place.run(*words, cache=place.warm) == 0
        assert (place.tiny.folder / LAYERS).read_bytes() == before

    def test_forgets_what_no_lock_asks_for(self, place: Place) -> None:
        before = place.record
        entry = next(iter(before["layers"].values()))
        place.write(before | {"layers": before["layers"] | {"0" * 64: entry}})
        assert place.run("layers", "record", "runtime", cache=place.warm) == 0
        assert place.record["layers"] == before["layers"]

    def test_what_is_none_is_refused(self, place: Place, capsys: Any) -> None:
        place.write({"version": 1, "layers": {"x": {"digest": "../x"}}})
        assert place.push("runtime", "--known") == LockError.exit_code
        assert "layers.json is not a record" in capsys.readouterr().err


class TestPublishing:
    def test_one_config_and_manifest_where_the_layers_are_there(
        self, place: Place, tmp_path: Path, capsys: Any
    ) -> None:
        """No layer is here, and nothing is fetched."""
        assert place.push("all", "--no-attest") == 0
        normal = {x["id"]: x["digest"] for x in results(capsys)}
        before, started = place.line.sent_bytes(), len(place.line.requests)
        assert place.push("all", "--known", "--no-attest") == 0
        known = results(capsys)
        assert {x["id"]: x["digest"] for x in known} == normal
        assert all(x["sent_bytes"] == 0 and x["moved"] == [] for x in known)
        assert place.line.sent_bytes() == before
        methods = {method for method, path, _ in place.line.requests[started:]}
        assert "PATCH" not in methods
        assert not list((place.fresh / "files").glob("*"))
        assert_whole(place.line.upstream, place.dist, tmp_path)

    def test_a_tag_that_is_gone_takes_the_manifest_alone(
        self, place: Place, tmp_path: Path, capsys: Any
    ) -> None:
        """The layers come by a sibling; config and topmost layer are the only bytes sent."""
        assert place.push("devel", "--no-attest") == 0
        capsys.readouterr()
        before = place.line.sent_bytes()
        assert place.push("runtime", "--known", "--no-attest") == 0
        (runtime,) = results(capsys)
        layout = Layout(place.dist)
        manifest = layout.read_json(layout_digest(place.dist))
        small = manifest["config"]["size"] + manifest["layers"][-1]["size"]
        assert runtime["sent_bytes"] == small
        assert place.line.sent_bytes() - before < small + 20_000
        assert digest_there(place.line.upstream, RUNTIME) == layout_digest(place.dist)
        assert_whole(place.line.upstream, place.dist, tmp_path)

    def test_what_the_registry_lacks_is_made_and_named(
        self, place: Place, tmp_path: Path, capsys: Any
    ) -> None:
        """An empty registry, and a cache that has all: sent from there."""
        assert place.push("runtime", "--known", cache=place.warm) == 0
        said = capsys.readouterr().err
        assert "the registry does not have torch 2.3.1: sent from the cache" in said
        assert "no documents were attached" not in said
        assert_whole(place.line.upstream, place.dist, tmp_path)

    def test_what_neither_has_is_built_alone(
        self, place: Place, tmp_path: Path, capsys: Any
    ) -> None:
        """Only torch's layer is not in the registry; only its wheel is taken."""
        tiny = place.tiny.with_cache(tmp_path / "bare")
        bare = tiny.context.settings.cache_dir
        for wheel in (bare / "files").rglob("*.whl"):
            if "torch" not in wheel.name:
                wheel.unlink()
        torch = [key for key, x in place.record["layers"].items() if x["title"] == "torch 2.3.1"]
        assert len(torch) == 1
        assert place.push("devel", "--no-attest") == 0
        capsys.readouterr()
        blob = place.record["layers"][torch[0]]["digest"].partition(":")[2]
        forget(tmp_path, blob)
        assert place.push("runtime", "--known", "--no-attest", cache=bare) == 0
        said = capsys.readouterr().err
        assert "the registry does not have torch 2.3.1: made here" in said
        assert said.count("made here") == 1
        assert_whole(place.line.upstream, place.dist, tmp_path)

    def test_documents_are_attached_without_any_layer_here(self, place: Place, capsys: Any) -> None:
        assert place.push("runtime") == 0
        assert "no documents were attached" in capsys.readouterr().err
        assert place.push("runtime", "--known") == 0
        assert "no documents were attached" not in capsys.readouterr().err
        tag = layout_digest(place.dist).replace(":", "-")
        url = f"http://{place.line.upstream}/v2/pytorch/manifests/{tag}"
        accept = {"Accept": "application/vnd.oci.image.index.v1+json"}
        with urllib.request.urlopen(urllib.request.Request(url, headers=accept)) as response:
            assert len(json.loads(response.read())["manifests"]) == 3


class TestWhatIsRefused:
    def test_an_image_without_an_inspection(self, place: Place, capsys: Any) -> None:
        place.write(place.record | {"images": {}})
        assert place.push("runtime", "--known") == InspectError.exit_code
        assert "its verification is not in images/layers.json" in capsys.readouterr().err
        assert digest_there(place.line.upstream, RUNTIME) is None

    def test_unless_told_otherwise(self, place: Place, capsys: Any) -> None:
        assert place.push("runtime", "--no-attest") == 0
        capsys.readouterr()
        place.write(place.record | {"images": {}})
        assert place.push("runtime", "--known", "--unverified", "--no-attest") == 0
        assert results(capsys)[0]["digest"] == layout_digest(place.dist)

    def test_or_all_of_it_is_here_to_be_inspected(self, place: Place, capsys: Any) -> None:
        place.write({"version": 1, "layers": {}, "images": {}})
        assert place.push("runtime", "--known", cache=place.warm) == 0
        assert results(capsys)[0]["digest"] == layout_digest(place.dist)

    def test_an_image_of_newer_locks(self, place: Place, tmp_path: Path, capsys: Any) -> None:
        kept = [wheel for name, wheel in place.tiny.wheels.items() if name not in ("torch", "demo")]
        newer = make_wheel(tmp_path, "torch", "2.3.1.post1", {"torch/__init__.py": ""})
        write_lock(place.tiny, place.tiny.cell("runtime"), [*kept, newer])
        assert place.push("runtime", "--known") == InspectError.exit_code
        assert "torch 2.3.1.post1 is not in images/layers.json" in capsys.readouterr().err

    def test_a_bundle_of_layers_that_are_not_here(self, place: Place, tmp_path: Path) -> None:
        words = ("push", "runtime", "--known", "--layout", tmp_path / "x.tar")
        assert place.run(*words) == UsageError.exit_code

    def test_a_layer_that_becomes_another_one(self, place: Place, capsys: Any) -> None:
        record = place.record
        layer = next(x for x in record["layers"].values() if x["title"] == "torch 2.3.1")
        layer["size"] += 1
        place.write(record)
        code = place.push("runtime", "--known", "--unverified", "--no-attest", cache=place.warm)
        assert code == InspectError.exit_code
        assert "torch 2.3.1: images/layers.json says" in capsys.readouterr().err
        assert digest_there(place.line.upstream, RUNTIME) is None


class TestVerifying:
    def test_wheels_become_what_the_record_says(self, place: Place, capsys: Any) -> None:
        assert place.push("runtime", "--verify-known", cache=place.warm) == 0
        assert results(capsys)[0]["digest"] == layout_digest(place.dist)
        assert place.run("layers", "verify", "all", "--json", cache=place.warm) == 0
        seen: Any = results(capsys)
        assert seen == {"layers": len(place.record["layers"]), "same": True}
        assert not list(place.warm.glob("verify-*"))

    def test_the_first_layer_that_differs_is_named(self, place: Place, capsys: Any) -> None:
        """Another diff_id alone: the registry could not tell."""
        record = place.record
        layer = next(x for x in record["layers"].values() if x["title"] == "torch 2.3.1")
        layer["diff_id"] = f"sha256:{'0' * 64}"
        place.write(record)
        assert place.push("runtime", "--verify-known", cache=place.warm) == InspectError.exit_code
        assert "torch 2.3.1: images/layers.json says" in capsys.readouterr().err
        assert digest_there(place.line.upstream, RUNTIME) is None


def forget(folder: Path, sha256: str) -> None:
    """Take a blob out of a registry's storage, links and all."""
    found = [path for path in (folder / "registry").rglob(sha256) if path.is_dir()]
    assert found
    for path in found:
        for file in path.iterdir():
            file.unlink()
