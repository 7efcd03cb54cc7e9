"""A build believes the record of layers as far as the blobs' digests bear it out."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import Tiny, make_tiny

from wheelyard.cli import main
from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.images.build.build import build_images
from wheelyard.images.build.results import Built
from wheelyard.oci.layout import Layout

pytestmark = pytest.mark.skipif(
    not Path("/lib64/ld-linux-x86-64.so.2").exists(), reason="needs Linux on x86_64"
)
OTHER = f"sha256:{'5' * 64}"
Build = Callable[..., tuple[dict[str, str], str]]


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    """A project with a record of its images' layers."""
    made = make_tiny(tmp_path / "tiny")
    places = ["--project", str(made.folder), "--cache-dir", str(made.context.settings.cache_dir)]
    output = ["--output", str(tmp_path / "dist")]
    assert main(["build", "all", "--no-load", *output, *places]) == 0
    assert main(["layers", "record", "all", *output, *places]) == 0
    return made


@pytest.fixture
def rebuilt(tiny: Tiny, tmp_path: Path) -> Build:
    """Build with a cache that knows no layer; digests by tag, and the warnings."""

    def build(**options: Any) -> tuple[dict[str, str], str]:
        name = f"again-{len(list(tmp_path.iterdir()))}"
        said = io.StringIO()
        own = tiny.with_cache(tmp_path / name / "cache")
        context = Context(own.context.settings, QuietReporter(said))
        output = tmp_path / name / "dist"
        results = build_images(tiny.plan.cells, tiny.plan, output, context, **options)
        assert all(isinstance(result, Built) for result in results), results
        return {tag: x.digest for tag, x in Layout(output).references().items()}, said.getvalue()

    return build


def edit(tiny: Tiny, **wrong: Any) -> None:
    """Change the record of torch's layer."""
    path = tiny.folder / "images/layers.json"
    record = json.loads(path.read_text())
    (layer,) = [x for x in record["layers"].values() if x["title"].startswith("torch ")]
    layer.update(wrong)
    path.write_text(json.dumps(record))


def test_what_is_recorded_is_believed_when_the_blob_is_the_one(
    tiny: Tiny, tmp_path: Path, rebuilt: Build
) -> None:
    expected = {tag: x.digest for tag, x in Layout(tmp_path / "dist").references().items()}
    assert rebuilt() == (expected, "")
    edit(tiny, diff_id=OTHER)  # nobody hashes the tar inside, so nobody notices here
    assert rebuilt()[0].keys() == expected.keys()
    assert rebuilt()[0] != expected
    assert rebuilt(recompute=True) == (expected, "")


def test_a_record_of_another_blob_is_overruled_and_named(
    tiny: Tiny, tmp_path: Path, rebuilt: Build
) -> None:
    expected = {tag: x.digest for tag, x in Layout(tmp_path / "dist").references().items()}
    edit(tiny, digest=OTHER)
    digests, said = rebuilt()
    assert digests == expected
    assert OTHER in said
    assert "wheelyard layers record" in said


def test_a_build_ends_with_where_it_is_and_what_comes_next(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    words = ["build", "all", "--no-load", "--project", str(tiny.folder)]
    words += ["--cache-dir", str(tiny.context.settings.cache_dir), "--output", str(tmp_path / "d")]
    assert main(words) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"2 images are in {tmp_path / 'd'}; not loaded: --no-load. Next: ")
    assert [line for line in lines if line.startswith("image 2 of 2: ")]


def test_an_engine_that_refuses_is_not_said_to_be_silent(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    capsys.readouterr()
    words = ["build", "all", "--project", str(tiny.folder), "--output", str(tmp_path / "d")]
    assert main([*words, "--cache-dir", str(tiny.context.settings.cache_dir)]) == 0
    said = capsys.readouterr().err
    assert "images are not loaded into an engine: the engine at unix://" in said
    assert f"in {tmp_path / 'd'}; not loaded: no Docker Engine can be used. Next: tar -C " in said
