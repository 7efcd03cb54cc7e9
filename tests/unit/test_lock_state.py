"""Which locks no longer match the matrix, found without network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from locking import devel_cell, runtime_cell

from wheelyard.errors import LockError
from wheelyard.lock.changes import PinChange, pin_changes
from wheelyard.lock.inputs import (
    base_cells,
    cells_by_id,
    package_inputs,
    requirements_inputs,
    wheel_platform,
)
from wheelyard.lock.lockfile import render_requirements_lock
from wheelyard.lock.packages import render_package_lock
from wheelyard.lock.stage import families
from wheelyard.lock.state import load_package_lock, load_requirements_lock, lock_problems
from wheelyard.model import Base, Cell, LockedDeb, LockedWheel, PackageLock, RequirementsLock

NUMPY = LockedWheel("numpy", "1.26.4", "numpy-1.26.4-py3-none-any.whl", "a" * 64, 7)
JUPYTER = LockedWheel("jupyterlab", "4.2", "jupyterlab-4.2-py3-none-any.whl", "b" * 64, 7)
DEB = LockedDeb("apt", "2.6.1", "amd64", "c" * 64, 9, "debian", "pool/main/a/apt/apt.deb")

RUNTIME, DEVEL = runtime_cell(), devel_cell()
CELLS = (RUNTIME, DEVEL)
INDEX = cells_by_id(CELLS)


def write(project: Path, cell: Cell, *wheels: LockedWheel) -> Path:
    lock = RequirementsLock(cell.id, requirements_inputs(cell, INDEX), wheels)
    path = project / cell.lock
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_requirements_lock(lock))
    base = project / cell.base_lock
    base.parent.mkdir(parents=True, exist_ok=True)
    inputs = package_inputs(cell, INDEX)
    packages = PackageLock("bookworm", cell.flavour.name, "bookworm", inputs, (DEB,))
    base.write_text(render_package_lock(packages))
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path, RUNTIME, NUMPY)
    write(tmp_path, DEVEL, JUPYTER, NUMPY)
    return tmp_path


def kinds(project: Path, cells: tuple[Cell, ...] = CELLS) -> dict[str, str]:
    return {str(problem.path): problem.kind for problem in lock_problems(project, cells)}


def test_good_locks_have_no_problems(project: Path) -> None:
    assert lock_problems(project, CELLS) == ()
    assert load_requirements_lock(project, DEVEL, INDEX).wheels == (JUPYTER, NUMPY)
    assert load_package_lock(project, DEVEL, INDEX).packages == (DEB,)


def test_a_missing_and_an_edited_lock(project: Path) -> None:
    (project / DEVEL.lock).unlink()
    path = project / RUNTIME.base_lock
    path.write_text(path.read_text().replace("2.6.1", "2.6.2"))
    assert kinds(project) == {
        str(DEVEL.lock): "missing",
        str(RUNTIME.base_lock): "edited",
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda cell: replace(cell, requirements=("torch==2.4.1",)),
        lambda cell: replace(cell, constraints=()),
        lambda cell: replace(cell, python="3.12"),
        lambda cell: replace(cell, base=replace(cell.base, suite="trixie")),
    ],
)
def test_a_changed_matrix_makes_the_family_stale(
    project: Path, change: Callable[[Cell], Cell]
) -> None:
    found = kinds(project, (change(RUNTIME), DEVEL))
    assert found[str(RUNTIME.lock)] == "stale"
    assert found[str(DEVEL.lock)] == "stale"  # it extends the runtime's


def test_another_package_list_makes_the_base_stale(project: Path) -> None:
    flavour = replace(RUNTIME.flavour, packages=("gcc", "tini"))
    found = kinds(project, (replace(RUNTIME, flavour=flavour), DEVEL))
    assert found == {str(RUNTIME.base_lock): "stale", str(DEVEL.base_lock): "stale"}


def test_a_lock_of_another_cell_is_refused(project: Path) -> None:
    (project / RUNTIME.lock).write_text((project / DEVEL.lock).read_text())
    with pytest.raises(LockError, match=f"is the lock of '{DEVEL.id}'"):
        load_requirements_lock(project, RUNTIME, INDEX)


def test_a_lock_without_its_parents_pins_is_stale(project: Path) -> None:
    write(project, RUNTIME, replace(NUMPY, version="1.26.3"))
    with pytest.raises(LockError, match=f"does not hold the pins of {RUNTIME.id}.*numpy"):
        load_requirements_lock(project, DEVEL, INDEX)
    assert kinds(project) == {str(DEVEL.lock): "stale"}


def test_what_belongs_to_no_image_is_orphaned_unless_a_selection_is_checked(
    project: Path,
) -> None:
    assert kinds(project, (RUNTIME,)) == {
        str(DEVEL.folder): "orphaned",
        str(DEVEL.base_lock): "orphaned",
    }
    assert lock_problems(project, (RUNTIME,), (RUNTIME,)) == ()


def test_the_order_of_requirements_does_not_make_a_lock_stale() -> None:
    turned = replace(RUNTIME, requirements=RUNTIME.requirements[::-1])
    assert requirements_inputs(turned, INDEX) == requirements_inputs(RUNTIME, INDEX)


def test_a_family_is_locked_whole_and_parents_first() -> None:
    stranger = replace(RUNTIME, id="pytorch-9-runtime")
    everything = (DEVEL, stranger, RUNTIME)
    assert families([RUNTIME], everything) == (RUNTIME, DEVEL)
    assert families([DEVEL], everything) == (RUNTIME, DEVEL)
    assert families([stranger], everything) == (stranger,)


def test_images_of_one_flavour_share_their_bases_lock() -> None:
    other = replace(RUNTIME, id="pytorch-9-runtime")
    assert set(base_cells((RUNTIME, other, DEVEL))) == {RUNTIME.base_lock, DEVEL.base_lock}


def test_an_unknown_suite_says_where_to_add_it() -> None:
    assert wheel_platform(RUNTIME.base) == "x86_64-manylinux_2_36"
    with pytest.raises(LockError, match=r"suites\.json"):
        wheel_platform(Base("sid", "sid", "3.13"))


def test_changes_name_what_moved() -> None:
    before = {"a": ("1", "x"), "b": ("1", "x"), "c": ("1", "x" * 64), "same": ("1", "x")}
    after = {"b": ("2", "y"), "c": ("1", "y" * 64), "d": ("1", "z"), "same": ("1", "x")}
    changes = pin_changes(before, after)
    assert [(change.name, change.kind) for change in changes] == [
        ("a", "removed"),
        ("b", "changed"),
        ("c", "changed"),
        ("d", "added"),
    ]
    assert changes[1] == PinChange("b", "1", "2")
