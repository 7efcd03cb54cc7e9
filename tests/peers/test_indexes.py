"""An index per CUDA and builds without CUDA, from the index to the image, by the real commands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.image.layout import BuiltImage, read_built, read_pins, read_references
from tests.lend import lend_bases
from tests.peers.indexes import publish, write_matrix
from tests.peers.island import Island
from tests.peers.mirror import Mirror, serve
from tests.peers.project import machine_cache
from tests.peers.site import (
    Result,
    Site,
    archive_files,
    as_options,
    assert_clean,
    upstream_archives,
)
from wheelyard.errors import MatrixError, SettingsError, UpstreamError
from wheelyard.planning.plan import load_plan

CU118, CU121, CPU = (
    f"pytorch-2.3.1-{words}-py3.11-runtime"
    for words in ("cuda11.8-cudnn8.7", "cuda12.1-cudnn8.9", "cpu")
)


@dataclass(frozen=True)
class Place:
    """The site, a folder for cache and layout, and what each command said."""

    site: Site
    folder: Path
    said: dict[str, Result]

    @property
    def dist(self) -> Path:
        return self.folder / "dist"

    def options(self) -> list[str]:
        """The mirror, and where the two indexes are that the matrix names."""
        base = self.site.mirror.base
        named = " ".join(f"pytorch-{name}={base}/whl/{name}/" for name in ("cu118", "cpu"))
        return [*as_options(self.site.settings), "--indexes", named]

    def run(self, *arguments: str | Path) -> Result:
        return self.site.run(*arguments, *self.options(), cache=self.folder / "cache")

    def image(self, name: str) -> BuiltImage:
        return next(image for image in read_built(self.dist) if image.id == name)

    def pins(self, name: str) -> dict[str, str]:
        return read_pins(self.site.project / "images" / name / "requirements.lock")


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, lonely: Island, need: Callable[..., None]
) -> Iterator[Place]:
    """Everything from `upstream refresh` to `build`, one command after the other."""
    need("mmdebstrap", "apt-get", "gpgv", "dpkg-deb")
    folder = tmp_path_factory.mktemp("indexes")
    project, home = folder / "project", folder / "home"
    home.mkdir()
    write_matrix(project)
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "corporate.pem"))
    files = {**archive_files({}), **publish(folder / "wheels")}
    with serve(Mirror(files, upstream_archives(), ca), lonely) as mirror:
        site = Site(mirror, lonely, folder / "corporate.pem", home, project)
        made = Place(site, folder, {})
        before = site.run("plan", cache=folder / "cache")
        made.said["plan without facts"] = before
        for command in ("upstream refresh --json", "plan --json", "lock", "render"):
            done = made.run(*command.split())
            assert done.returncode == 0, done.stderr
            assert_clean(site, done)
            made.said[command] = done
        plan = load_plan(project)
        lend_bases(plan.cells, plan, project, machine_cache(), folder / "cache")
        built = made.run("build", "all", "--no-load", "--output", made.dist)
        assert built.returncode == 0, built.stderr
        assert_clean(site, built)
        yield made
    shutil.rmtree(folder)


def test_without_facts_the_plan_says_how_to_get_them(place: Place) -> None:
    said = place.said["plan without facts"]
    assert said.returncode == MatrixError.exit_code
    assert "no upstream facts about PyTorch 2.3.1+cu118" in said.stderr
    assert "--indexes pytorch-cu118=URL" in said.stderr


def test_the_facts_are_read_from_each_index_and_are_the_projects_own(place: Place) -> None:
    changes = json.loads(place.said["upstream refresh --json"].stdout)
    new = {c["version"]: c["detail"] for c in changes if c["kind"] == "new"}
    assert set(new) == {"2.3.1+cu118", "2.3.1+cpu"}
    facts = json.loads((place.site.project / "upstream.json").read_text())["pytorch"]
    assert facts["2.3.1+cu118"]["cuda"] == "11.8"
    assert (facts["2.3.1+cpu"]["cuda"], facts["2.3.1+cpu"]["cudnn"]) == ("cpu", "none")
    assert "http" not in json.dumps(facts)


def test_the_plan_has_one_image_a_build(place: Place) -> None:
    cells = {cell["id"]: cell for cell in json.loads(place.said["plan --json"].stdout)}
    assert set(cells) == {CU118, CU121, CPU}
    assert cells[CPU]["tags"] == [
        "pytorch:2.3.1-cpu-py3.11", "pytorch:2.3.1-cpu", "pytorch:2.3-cpu",
    ]  # fmt: skip
    assert cells[CU118]["tags"][:2] == [
        "pytorch:2.3.1-cuda11.8-cudnn8.7-py3.11", "pytorch:2.3.1-cuda11.8",
    ]  # fmt: skip
    assert "pytorch:latest" in cells[CU121]["tags"]


def test_each_lock_pins_its_own_build(place: Place) -> None:
    assert place.pins(CU118)["torch"] == "2.3.1+cu118"
    assert place.pins(CU118)["nvidia-cudnn-cu11"] == "8.7.0.84"
    assert place.pins(CU121)["torch"] == "2.3.1"
    assert place.pins(CPU) == {"torch": "2.3.1+cpu", "filelock": "3.1", "pip": "26.0"}


def test_locks_and_renders_are_up_to_date_without_a_setting(place: Place) -> None:
    """Whoever checks a change knows no URL: neither check needs one."""
    for command in (["lock", "--check"], ["render", "--check"], ["plan"]):
        done = place.site.run(*command, cache=place.folder / "cache")
        assert done.returncode == 0, done.stderr


def test_locking_again_changes_nothing(place: Place) -> None:
    done = place.run("lock", "--json")
    assert done.returncode == 0, done.stderr
    assert [lock for lock in json.loads(done.stdout) if lock["written"]] == []


def test_the_layout_holds_the_tags(place: Place) -> None:
    references = read_references(place.dist)
    for image in read_built(place.dist):
        assert {references[tag] for tag in image.tags} == {image.digest}
    assert {"pytorch:2.3.1-cpu", "pytorch:2.3.1-cuda11.8", "pytorch:latest"} <= set(references)


def label(image: BuiltImage) -> dict[str, Any]:
    return dict(json.loads(image.settings["Labels"]["wheelyard.cell"]))


def test_labels_and_environment_say_what_is_inside(place: Place) -> None:
    old, new, none = (place.image(name) for name in (CU118, CU121, CPU))
    assert (label(old)["index"], label(none)["index"]) == ("pytorch-cu118", "pytorch-cpu")
    assert "index" not in label(new)
    assert (label(old)["cuda"], label(old)["driver"]["minimum"]) == ("11.8", "450.80.02")
    assert (label(none)["cuda"], label(none)["cudnn"], label(none)["driver"]) == (
        "cpu", "none", None,
    )  # fmt: skip
    assert "cuda>=11.0" in old.environment["NVIDIA_REQUIRE_CUDA"]
    assert not [name for name in none.environment if name.startswith("NVIDIA")]
    title = none.settings["Labels"]["org.opencontainers.image.title"]
    assert title == "pytorch 2.3.1, CPU only, Python 3.11 (runtime)"
    assert none.layers[0] == old.layers[0] == new.layers[0]


def test_inspect_reads_each_image_back(place: Place) -> None:
    done = place.run("inspect", "all", "--output", place.dist, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    seen = {
        item["id"]: {finding["name"]: finding["seen"] for finding in item["findings"]}
        for item in json.loads(done.stdout)
    }
    assert (seen[CU118]["CUDA"], seen[CU118]["cuDNN"]) == ("11.8", "8.7")
    assert (seen[CU118]["NCCL"], seen[CPU]["NCCL"]) == ("2.20.5", "")
    assert (seen[CPU]["CUDA"], seen[CPU]["cuDNN"]) == ("cpu", "none")


def test_a_build_that_is_not_the_cells_is_refused(place: Place, tmp_path: Path) -> None:
    """The CPU image under the name of the other one: inspect must tell them apart."""
    dist = tmp_path / "dist"
    shutil.copytree(place.dist, dist)
    index = json.loads((dist / "index.json").read_text())
    name = "org.opencontainers.image.ref.name"
    swapped = {place.image(CU118).tags[0]: CPU, place.image(CPU).tags[0]: CU118}
    for item in index["manifests"]:
        if other := swapped.get(item["annotations"][name]):
            item["digest"] = place.image(other).digest
            item["size"] = place.image(other).blob(item["digest"]).stat().st_size
    (dist / "index.json").write_text(json.dumps(index))
    done = place.run("inspect", CPU, "--output", dist)
    assert done.returncode == 11
    assert "libraries of NVIDIA's" in done.stdout


def test_the_cpu_image_proves_itself(place: Place) -> None:
    """selfcheck in the image: no CUDA library, no driver, and nothing of that is a failure."""
    report = place.folder / "report"
    groups = [word for name in ("versions", "libraries", "gpu") for word in ("--group", name)]
    done = place.run(
        "verify", CPU, "--output", place.dist, "--report", report, "--backend", "chroot", "--json",
        *groups,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (image,) = json.loads(done.stdout)["images"]
    checks = {check["name"]: check for check in image["checks"]}
    assert {check["status"] for check in checks.values()} == {"pass", "skip"}
    assert checks["versions.torch-cuda"]["status"] == "pass"
    for name in ("versions.driver", "versions.cudnn", "gpu.driver", "gpu.matmul.pytorch"):
        assert "CPU only" in checks[name]["reason"], name


def test_the_watch_asks_each_index_about_its_own(place: Place) -> None:
    asked = ["upstream", "check", "--wheels-only", "--json"]
    done = place.run(*asked)
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
    page = "/whl/cpu/torch/"
    files = dict(place.site.mirror.files)
    place.site.mirror.files = {
        **files, page: b'<!DOCTYPE html><a href="/files/torch-2.4.0.tar.gz">the rest</a>',
    }  # fmt: skip
    try:
        done = place.run(*asked)
    finally:
        place.site.mirror.files = files
    assert done.returncode == UpstreamError.exit_code
    (gone,) = json.loads(done.stdout)
    assert (gone["kind"], gone["locks"]) == ("gone", [CPU])
    assert gone["what"].startswith("torch-2.3.1+cpu-cp311")


def test_without_the_setting_the_build_names_it(place: Place, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    plan = load_plan(place.site.project)
    lend_bases(plan.cells, plan, place.site.project, place.folder / "cache", cache)
    settings = as_options(place.site.settings)
    output = tmp_path / "dist"
    done = place.site.run("build", CPU, "--no-load", "--output", output, *settings, cache=cache)
    assert done.returncode == SettingsError.exit_code
    assert '--indexes "pytorch-cpu=URL"' in done.stderr
