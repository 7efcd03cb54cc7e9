"""The image that a project is based on, from the matrix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from locking import runtime_cell
from planning import committed_plan

from wheelyard.errors import ProjectError, SelectionError
from wheelyard.model import LockedWheel, RequirementsLock
from wheelyard.projects.base import base_cell, base_contents, base_from_plan, planned_base
from wheelyard.projects.model import BaseImage

ROOT = Path(__file__).parents[2]
PLAN = committed_plan()


def planned(image: str) -> BaseImage:
    return planned_base(image, PLAN, ROOT)


def test_a_base_keeps_what_makes_its_cell_and_knows_all_it_installs() -> None:
    wheels = (
        LockedWheel("numpy", "1.26.4", "numpy-1.26.4-cp311-cp311-linux_x86_64.whl", "0" * 64, 1),
        LockedWheel("torch", "2.3.1", "torch-2.3.1-cp311-cp311-linux_x86_64.whl", "1" * 64, 2),
    )
    cell = replace(runtime_cell(), reasons=(("numpy<2", "compiled against the NumPy 1 ABI"),))
    base = base_from_plan(cell, RequirementsLock(cell.id, "2" * 64, wheels))
    assert base.reference == "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11"
    assert base.repository == "pytorch"
    assert base.constraints == ("torch==2.3.1", "numpy<2")
    assert (base.wheels, base.python, base.platform) == (wheels, "3.11", "x86_64-manylinux_2_36")
    other = replace(base, wheels=(wheels[0], replace(wheels[1], sha256="3" * 64)))
    assert base_contents(base) != base_contents(other)
    assert base_contents(base) == base_contents(replace(base, digest="sha256:" + "4" * 64))


def test_the_sets_own_images_are_found_by_tag_and_by_words() -> None:
    by_tag = planned("pytorch:2.3.1")
    assert by_tag == planned("pytorch-2.3-cuda12.1")
    assert "torch==2.3.1" in by_tag.constraints
    assert {"torch", "numpy", "torchvision"} <= {wheel.name for wheel in by_tag.wheels}
    assert planned("pytorch-2.3-devel").reference.endswith("-devel")


def test_an_image_for_another_processor_is_one_that_names_it() -> None:
    ours, theirs = planned("pytorch:2.15"), planned("pytorch:2.15-arm64")
    assert (ours.machine, theirs.machine) == ("x86_64", "aarch64")
    assert theirs.platform == ours.platform.replace("x86_64", "aarch64")
    assert theirs == planned("pytorch-2.15.0-cuda13.2-cudnn9.26-py3.13-runtime-arm64")
    assert planned("pytorch-2.14-py3.13").machine == "x86_64"
    assert planned("pytorch-2.14-py3.13-arm64").machine == "aarch64"
    assert base_contents(ours) != base_contents(theirs)
    assert ours.devel == "pytorch:2.15.0-cuda13.2-cudnn9.26-py3.13-devel"
    assert theirs.devel == f"{ours.devel}-arm64"
    devel = planned(theirs.devel)
    assert (devel.reference, devel.devel) == (theirs.devel, theirs.devel)


def test_words_that_mean_several_images_or_none_are_refused() -> None:
    with pytest.raises(ProjectError, match=r"means \d+ images"):
        base_cell("pytorch", PLAN)
    with pytest.raises(SelectionError, match="selects no image"):
        base_cell("pytorch:9.9", PLAN)
