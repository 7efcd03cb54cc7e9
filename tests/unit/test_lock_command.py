"""`wheelyard lock` and `wheelyard render` from the command line, as far as they go offline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from wheelyard.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "matrix.yaml", tmp_path)
    for name in ("templates", "images"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_committed_locks_match_the_matrix(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--project", str(ROOT), "lock", "--check"]) == 0
    assert capsys.readouterr().out == ""


def test_check_names_every_lock_that_does_not_match(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    locks = sorted(project.glob("images/*/requirements.lock"))
    locks[0].unlink()
    locks[1].write_text(locks[1].read_text() + "more\n")
    (project / "images" / "old").mkdir()
    assert main(["--project", str(project), "lock", "--check", "--json"]) == 6
    captured = capsys.readouterr()
    found = {item["lock"]: item["kind"] for item in json.loads(captured.out)}
    assert found["images/old"] == "orphaned"
    assert found[str(locks[0].relative_to(project))] == "missing"
    assert found[str(locks[1].relative_to(project))] == "edited"
    assert f"wheelyard lock {locks[1].parent.name}" in captured.err


def test_check_of_a_selection_looks_at_nothing_else(project: Path) -> None:
    (project / "images" / "old").mkdir()
    assert main(["--project", str(project), "lock", "--check", "pytorch-2.3"]) == 0
    assert main(["--project", str(project), "lock", "--check"]) == 6


def test_render_check_lists_what_differs_and_render_puts_it_right(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sorted(project.glob("images/*/Dockerfile"))[0]
    path.write_text("FROM scratch\n")
    assert main(["--project", str(project), "render", "--check"]) == 6
    assert str(path.relative_to(project)) in capsys.readouterr().err
    assert main(["--project", str(project), "render"]) == 0
    written = capsys.readouterr().out.splitlines()
    assert f"written  {path.relative_to(project)}" in written
    assert [line for line in written if "Dockerfile" in line] == written[-1:]
    assert main(["--project", str(project), "render", "--check"]) == 0
