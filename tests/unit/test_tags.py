"""Tags and aliases: the grammar, and one owner for each name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import planning
import pytest

from wheelyard.errors import MatrixError
from wheelyard.planning.facts import Upstream
from wheelyard.planning.plan import make_plan

LEGAL = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*:\w[\w.-]{0,127}")  # repository:tag, by the OCI spec


def owners(folder: Path, upstream: Upstream = planning.UPSTREAM, **changes: Any) -> dict[str, str]:
    made = make_plan(planning.matrix(folder, **changes), upstream)
    pairs = [(tag, cell.id) for cell in made.cells for tag in cell.tags]
    assert len(dict(pairs)) == len(pairs), "a tag has two owners"
    return dict(pairs)


def test_committed_tags_are_legal_and_owned_once() -> None:
    tags = [tag for cell in planning.committed_plan().cells for tag in cell.tags]
    assert len(tags) == len(set(tags))
    assert all(LEGAL.fullmatch(tag) for tag in tags)


def test_aliases_of_an_image(tmp_path: Path) -> None:
    owned = owners(tmp_path)
    runtime = "pytorch-2.4.1-cuda12.1-cudnn9.1-py3.11-runtime"
    assert [tag for tag, owner in owned.items() if owner == runtime] == [
        "pytorch:2.4.1-cuda12.1-cudnn9.1-py3.11",
        "pytorch:2.4.1-cuda12.1",
        "pytorch:2.4-cuda12.1",
        "pytorch:2.4.1",
        "pytorch:2.4",
        "pytorch:latest",
    ]
    assert owned["pytorch:devel"] == runtime.replace("runtime", "devel")
    assert owned["pytorch:2.3-devel"] == "pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-devel"


def several(*cells: tuple[str, str, str, tuple[str, ...]]) -> tuple[Upstream, dict[str, Any]]:
    """Facts and axes for made-up releases (version, cuda, cudnn, pythons)."""
    facts = {"pytorch": {cell[0]: planning.torch(*cell[:3], *cell[3]) for cell in cells}}
    axes = {
        "framework": [f"pytorch {cell[0]}" for cell in cells],
        "cuda": sorted({cell[1] for cell in cells}),
        "cudnn": sorted({cell[2].rsplit(".", 2)[0] for cell in cells}),
        "flavour": ["runtime"],
    }
    return facts, axes


def test_versions_are_compared_as_versions(tmp_path: Path) -> None:
    facts, axes = several(("2.9.1", "12.8", "9.1.0.1", ()), ("2.10.0", "12.8", "9.1.0.1", ()))
    owned = owners(tmp_path, facts, axes=axes)
    assert owned["pytorch:latest"].startswith("pytorch-2.10.0-")
    assert owned["pytorch:2.9"].startswith("pytorch-2.9.1-")


def test_the_newest_patch_owns_the_short_version(tmp_path: Path) -> None:
    facts, axes = several(("2.4.1", "12.1", "9.1.0.1", ()), ("2.4.0", "12.1", "9.1.0.1", ()))
    owned = owners(tmp_path, facts, axes=axes)
    assert owned["pytorch:2.4"].startswith("pytorch-2.4.1-")
    assert owned["pytorch:2.4.0"].startswith("pytorch-2.4.0-")


def test_pre_releases_own_no_alias(tmp_path: Path) -> None:
    facts, axes = several(("2.4.1", "12.1", "9.1.0.1", ()), ("2.5.0rc1", "12.1", "9.1.0.1", ()))
    owned = owners(tmp_path, facts, axes=axes)
    assert owned["pytorch:latest"].startswith("pytorch-2.4.1-")
    assert [tag for tag in owned if "rc1" in tag] == ["pytorch:2.5.0rc1-cuda12.1-cudnn9.1-py3.11"]


def test_newest_python_then_default_base(tmp_path: Path) -> None:
    facts, axes = several(("2.9.1", "12.8", "9.1.0.1", ("3.11", "3.13")))
    axes |= {"python": ["3.11", "3.13"], "base": ["trixie", "slim", "bookworm"]}
    assert owners(tmp_path, facts, axes=axes)["pytorch:latest"].endswith("py3.13-runtime")
    axes |= {"python": ["3.11"], "base": ["slim", "bookworm"]}
    assert owners(tmp_path, facts, axes=axes)["pytorch:latest"].endswith("py3.11-runtime")


def test_a_swapped_cudnn_takes_no_alias_away(tmp_path: Path) -> None:
    entry = {
        "framework": "pytorch 2.4.1",
        "cuda": "12.1",
        "cudnn": "9.8",
        "python": "3.11",
        "base": "bookworm",
        "flavours": ["runtime"],
    }
    owned = owners(tmp_path, include=[entry])
    assert owned["pytorch:latest"] == "pytorch-2.4.1-cuda12.1-cudnn9.1-py3.11-runtime"
    assert [tag for tag in owned if "9.8" in tag] == ["pytorch:2.4.1-cuda12.1-cudnn9.8-py3.11"]


def test_combined_images_have_a_repository_of_their_own(tmp_path: Path) -> None:
    axes = {"framework": ["pytorch 2.9.1", "pytorch 2.9.1 + tensorflow 2.20.0"]}
    axes |= {"cuda": ["12.8"], "cudnn": ["9.10"], "flavour": ["runtime"]}
    owned = owners(tmp_path, axes=axes)
    assert owned["pytorch-tensorflow:2.9-2.20"] == owned["pytorch-tensorflow:latest"]
    assert "tensorflow" not in owned["pytorch:latest"]


def test_a_full_tag_for_two_images_is_refused(tmp_path: Path) -> None:
    """A flavour `slim` beside a base `slim` would give both the tag ...-slim."""
    flavours = {"runtime": {"description": "a"}, "slim": {"description": "b"}}
    bases = {name: {"suite": "bookworm", "python": "3.11"} for name in ("bookworm", "slim")}
    with pytest.raises(MatrixError, match="'slim' is also one of bases"):
        owners(
            tmp_path,
            bases=bases,
            flavours=flavours,
            axes={"flavour": ["runtime", "slim"], "base": ["bookworm", "slim"]},
        )


def test_an_alias_never_hides_a_full_tag(tmp_path: Path) -> None:
    """A flavour named like an axis word makes an alias look like another image's full tag."""
    flavours = {"runtime": {"description": "a"}, "py3": {"description": "b"}}
    owned = owners(tmp_path, flavours=flavours, axes={"flavour": ["runtime", "py3"]})
    for tag, owner in owned.items():
        if "cudnn" in tag:
            assert tag.split(":")[1].split("-")[0] in owner
