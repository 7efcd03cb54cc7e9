"""`--prune-wheels`: a slice of the matrix is built, and its wheels are gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import Tiny, make_tiny

from wheelyard.images.build.build import build_images, locked_wheels, prune_wheels
from wheelyard.images.build.results import Built

pytestmark = pytest.mark.skipif(
    not Path("/lib64/ld-linux-x86-64.so.2").exists(), reason="needs Linux on x86_64"
)


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    return make_tiny(tmp_path)


def fetched(tiny: Tiny) -> set[str]:
    return {path.name for path in (tiny.context.settings.cache_dir / "files").rglob("*.whl")}


def test_wheels_go_when_no_later_image_needs_them(tiny: Tiny, tmp_path: Path) -> None:
    everything = fetched(tiny)
    results = build_images(tiny.plan.cells, tiny.plan, tmp_path / "dist", tiny.context, prune=True)
    assert [type(result) for result in results] == [Built, Built]
    assert len(everything) > 3
    assert fetched(tiny) == set()
    again = build_images(tiny.plan.cells, tiny.plan, tmp_path / "dist", tiny.context, prune=True)
    pairs = zip(results, again, strict=True)
    assert all(
        isinstance(one, Built) and isinstance(two, Built)
        and one.image.manifest.digest == two.image.manifest.digest
        for one, two in pairs
    )  # fmt: skip


def test_what_a_later_image_needs_is_kept(tiny: Tiny) -> None:
    runtime, devel = (tiny.cell(name) for name in ("runtime", "devel"))
    files = tiny.context.settings.cache_dir / "files"
    kept = locked_wheels([devel], tiny.plan, tiny.folder)
    wheels = locked_wheels([runtime], tiny.plan, tiny.folder)
    assert wheels < kept
    assert prune_wheels(wheels - kept, files) == 0
    assert prune_wheels(kept - wheels, files) == sum(w.size for w in kept - wheels)
    assert prune_wheels(kept - wheels, files) == 0
    assert fetched(tiny) == {wheel.filename for wheel in wheels}
