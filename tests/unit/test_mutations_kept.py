"""Verdicts on faults are kept until something that their judge read has changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutations.kept import Kept, digest_of, files_in, files_read, forget_reads, needed

SAID = {"status": "fail"}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "data").mkdir(parents=True)
    (folder / "main.py").write_text("print(open('package/data/one.txt').read())\n")
    (folder / "data/one.txt").write_text("1")
    (folder / "data/two.txt").write_text("2")
    return folder


def test_what_a_program_and_its_children_read_is_known(package: Path) -> None:
    forget_reads(package)
    assert files_read(package) == []
    command = [sys.executable, "package/main.py"]
    subprocess.run(["sh", "-c", '"$@"; true', "sh", *command], check=True, cwd=package.parent)
    assert files_read(package) == ["data/one.txt", "main.py"]


def test_a_verdict_holds_until_a_file_that_was_read_changes(package: Path, tmp_path: Path) -> None:
    file = tmp_path / "kept/verdicts.jsonl"
    Kept(file).add("key", package, ["main.py", "data/one.txt"], SAID)
    (package / "data/two.txt").write_text("another")
    assert Kept(file).find("key", package) == SAID
    assert Kept(file).find("another key", package) is None
    (package / "data/one.txt").unlink()
    assert Kept(file).find("key", package) is None


def test_what_was_cut_off_is_asked_again(package: Path, tmp_path: Path) -> None:
    file = tmp_path / "verdicts.jsonl"
    for key in ("first", "second"):
        Kept(file).add(key, package, ["main.py"], SAID)
    text = file.read_text()
    file.write_text(text[:-9])
    store = Kept(file)
    assert (store.find("first", package), store.find("second", package)) == (SAID, None)
    store.add("second", package, ["main.py"], SAID)
    assert Kept(file).find("second", package) == SAID


def test_a_judge_that_read_nothing_is_asked_again_after_every_edit(package: Path) -> None:
    everything = ["data/one.txt", "data/two.txt", "main.py"]
    assert files_in(package) == everything
    assert needed([], "main.py", package) == everything
    assert needed(["main.py"], "main.py", package) == ["main.py"]


def test_parts_cannot_be_moved_into_each_other() -> None:
    assert digest_of("ab", "c") != digest_of("a", "bc")
    assert digest_of("ab", b"c") == digest_of(b"ab", "c")
