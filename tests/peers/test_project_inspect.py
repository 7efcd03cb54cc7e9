"""A project's image read back beside its base: what `wheelyard inspect` finds in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import PYTHON, Tiny, locked, put_wheel
from wheels import make_wheel

from tests.peers.command import wheelyard
from wheelyard.errors import ProjectError, WheelError
from wheelyard.lock.lockfile import read_requirements_lock
from wheelyard.projects.base import base_contents, base_from_plan
from wheelyard.projects.inspect import inspect_project
from wheelyard.projects.local import build_project
from wheelyard.projects.model import ProjectLock, ProjectWheel
from wheelyard.projects.pylock import render_lock
from wheelyard.projects.requirements import collect
from wheelyard.projects.state import inputs_of
from wheelyard.projects.table import Project, read_project

ARM = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00" + bytes(40)
Make = Callable[[Path], list[Path]]


class Place:
    def __init__(self, tiny: Tiny, dist: Path, folder: Path) -> None:
        self.tiny, self.folder, self.dist = tiny, folder / "app", folder / "app/dist"
        (folder / "wheels").mkdir()
        self.wheels = folder / "wheels"
        self.folder.mkdir()
        shutil.copytree(dist, self.dist, symlinks=True)
        table = '[project]\nname = "app"\nversion = "1"\n[tool.wheelyard]\nimage = "pytorch"\n'
        (self.folder / "pyproject.toml").write_text(table)
        cell = tiny.cell("runtime")
        self.base = base_from_plan(cell, read_requirements_lock(tiny.folder / cell.lock))

    @property
    def project(self) -> Project:
        found = read_project(self.folder)
        assert found is not None
        return found

    def build(self, make: Make, shadowed: str = "", ghost: Path | None = None) -> None:
        self.lock(make, shadowed, ghost)
        build_project(self.project, self.dist, self.tiny.context)

    def lock(self, make: Make, shadowed: str = "", ghost: Path | None = None) -> None:
        below = [wheel for wheel in self.base.wheels if wheel.name == shadowed]
        if ghost is not None:
            put_wheel(self.tiny.context.settings.cache_dir, ghost)
            below.append(locked(ghost))
        lock = ProjectLock(
            base=self.base.reference,
            base_digest="",
            contents=base_contents(self.base),
            inputs="",
            python=PYTHON,
            wheels=tuple(ProjectWheel(locked(x), x.as_uri()) for x in make(self.wheels)),
            shadowed=tuple(below),
        )
        inputs = inputs_of(self.project, collect(self.project, PYTHON), lock.contents)
        self.project.lock.write_text(render_lock(replace(lock, inputs=inputs)))

    def wrong(self) -> dict[str, str]:
        found = inspect_project(self.project, self.dist, self.tiny.context, lambda _: None)
        return {one.name: one.seen for one in found if not one.ok}


@pytest.fixture
def place(tiny: Tiny, tiny_dist: Path, tmp_path: Path) -> Place:
    return Place(tiny, tiny_dist, tmp_path)


def test_an_image_that_is_right_has_no_findings(place: Place) -> None:
    def make(folder: Path) -> list[Path]:
        newer = make_wheel(folder, "pip", "27.0", {"pip/__init__.py": "", "pip/new.py": ""})
        return [make_wheel(folder, "extra", "1.0", {"extra/__init__.py": "x = 1\n"}), newer]

    place.build(make, shadowed="pip")
    assert place.wrong() == {}
    (place.dist / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    with pytest.raises(ProjectError, match="run: wheelyard build"):
        place.wrong()


def test_what_is_wrong_is_named(place: Place) -> None:
    def make(folder: Path) -> list[Path]:
        return [
            make_wheel(folder, "extra", "1.0", {"extra/libcudart.so.12": b"\x7fELF other"}),
            make_wheel(folder, "arm", "1.0", {"arm/fast.so": ARM}),
        ]

    place.build(make)
    wrong = place.wrong()
    assert "extra/libcudart.so.12 and " in wrong["one CUDA set"]
    assert wrong["architecture"].endswith("site-packages/arm/fast.so")
    assert set(wrong) == {"one CUDA set", "architecture"}


def test_the_command_says_it_and_ends_with_11(place: Place) -> None:
    place.build(lambda folder: [make_wheel(folder, "arm", "1.0", {"arm/fast.so": ARM})])
    done = wheelyard(["inspect", "--json"], place.folder, {})
    assert done.returncode == 11, done.stderr
    (said,) = json.loads(done.stdout)
    assert (said["id"], said["ok"]) == ("app", False)
    place.build(lambda folder: [make_wheel(folder, "extra", "1.0")])
    done = wheelyard(["inspect"], place.folder, {})
    assert done.returncode == 0, done.stderr
    assert "WRONG" not in done.stdout


def test_a_file_of_the_base_is_not_replaced_silently(place: Place) -> None:
    place.build(lambda folder: [make_wheel(folder, "thief", "1.0", {"torch/version.py": "x = 1"})])
    with pytest.raises(WheelError, match=r"two layers hold .*torch/version.py with different"):
        place.wrong()


def test_a_lock_that_does_not_fit_the_image(place: Place) -> None:
    place.build(lambda folder: [make_wheel(folder, "extra", "1.0")])
    place.lock(lambda folder: [make_wheel(folder, "other", "1.0")])
    assert place.wrong() == {"distributions": "other 1.0 missing; extra 1.0 not in the lock"}


def test_what_is_removed_was_there(place: Place) -> None:
    ghost = make_wheel(place.wheels, "ghost", "1.0")
    place.build(lambda folder: [make_wheel(folder, "extra", "1.0")], ghost=ghost)
    wrong = place.wrong()
    assert wrong["removed distributions"].endswith("/ghost-1.0.dist-info was not there")
