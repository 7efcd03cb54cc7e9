"""The layers that a project adds: what is removed, how it is installed, how wheels are grouped."""

from __future__ import annotations

import base64
import csv
import email
import hashlib
import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from locking import make_settings
from tiny import locked
from wheels import make_wheel

from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.contract.recipe import added_layers
from wheelyard.errors import ProjectError, WheelError
from wheelyard.images.assemble.store import LayerStore
from wheelyard.model import LockedWheel
from wheelyard.projects.layers import Workshop, project_layers, write_removal
from wheelyard.projects.metadata import write_metadata
from wheelyard.projects.model import BaseImage, ProjectLock, ProjectWheel
from wheelyard.projects.table import Project, Table

SITE = "opt/venv/lib/python3.11/site-packages"
METADATA = {
    "name": "My.Model", "version": "1.0.0", "description": "A\nmodel",
    "requires-python": ">=3.10", "dependencies": ["torch>=2"],
    "optional-dependencies": {"Serve": ["fastapi; python_version > '3.8'", "uvicorn"]},
    "scripts": {"train": "my_model.main:run"},
    "entry-points": {"my.plugins": {"one": "my_model.plugins"}},
}  # fmt: skip


def project(folder: Path, **metadata: Any) -> Project:
    return Project(
        folder, folder / "pyproject.toml", Table(image="pytorch", name="my-model"), metadata
    )


def contents(blob: Path) -> dict[str, bytes]:
    with tarfile.open(blob) as archive:
        return {
            one.name: content.read() if (content := archive.extractfile(one)) else b""
            for one in archive
            if one.isreg()
        }


def test_an_editable_installation(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    write_metadata(tmp_path / "blob", project(tmp_path, **METADATA), "3.11", b"lock\n")
    files = contents(tmp_path / "blob")
    info = f"{SITE}/my_model-1.0.0.dist-info"
    assert files["opt/wheelyard/pylock.toml"] == b"lock\n"
    assert files[f"{SITE}/__editable__.my_model.pth"] == b"/workspace/src\n"
    assert b"from my_model.main import run" in files["opt/venv/bin/train"]
    assert files[f"{info}/INSTALLER"] == b"wheelyard\n"
    assert json.loads(files[f"{info}/direct_url.json"]) == {
        "dir_info": {"editable": True}, "url": "file:///workspace",
    }  # fmt: skip
    said = email.message_from_bytes(files[f"{info}/METADATA"])
    assert (said["Name"], said["Version"], said["Summary"]) == ("My.Model", "1.0.0", "A model")
    assert said.get_all("Requires-Dist") == [
        "torch>=2",
        'fastapi ; (python_version > "3.8") and extra == "serve"',
        'uvicorn ; extra == "serve"',
    ]
    assert b"[my.plugins]\none = my_model.plugins\n" in files[f"{info}/entry_points.txt"]
    for path, digest, size in csv.reader(io.StringIO(files[f"{info}/RECORD"].decode())):
        if digest:
            place = "opt/venv/bin/train" if path.startswith("..") else f"{SITE}/{path}"
            made = base64.urlsafe_b64encode(hashlib.sha256(files[place]).digest())
            assert digest == f"sha256={made.decode().rstrip('=')}"
            assert int(size) == len(files[place])
    assert not list(tmp_path.glob("*.whl"))


def test_what_has_no_name_is_not_installed(tmp_path: Path) -> None:
    write_metadata(tmp_path / "blob", project(tmp_path), "3.11", b"lock\n")
    assert list(contents(tmp_path / "blob")) == ["opt/wheelyard/pylock.toml"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"name": "../x"}, "not a valid name"),
        ({"version": "one"}, "one"),
        ({"dependencies": ["torch =="]}, "not a requirement"),
        ({"scripts": {"a/b": "x:y"}}, r"leaves bin/"),
        ({"scripts": {"a": "no function"}}, "not a callable"),
        ({"scripts": {"python": "x:y"}}, "would replace"),
        ({"scripts": ["a"]}, "must be a table"),
        ({"entry-points": {"x": "y"}}, "must be a table"),
    ],
)
def test_metadata_that_is_refused(tmp_path: Path, change: dict[str, Any], what: str) -> None:
    with pytest.raises(ProjectError, match=what):
        write_metadata(tmp_path / "blob", project(tmp_path, **{**METADATA, **change}), "3.11", b"")


def test_a_removed_distribution_takes_all_it_installed(tmp_path: Path) -> None:
    path = make_wheel(
        tmp_path, "old", "1.0",
        {"old/__init__.py": "", "old/data.bin": b"1", "old/tests/test_a.py": ""},
        extra={"old-1.0.dist-info/entry_points.txt": "[console_scripts]\nold = old:main\n"},
    )  # fmt: skip
    wheel = locked(path)
    made = write_removal(tmp_path / "blob", [wheel], {wheel.sha256: path}, "3.11")
    again = write_removal(tmp_path / "again", [wheel], {wheel.sha256: path}, "3.11")
    assert made == again
    files = contents(tmp_path / "blob")
    assert set(files) == {
        "opt/venv/bin/.wh.old",
        f"{SITE}/.wh.old-1.0.dist-info",
        f"{SITE}/old/.wh.__init__.py",
        f"{SITE}/old/.wh.data.bin",
        f"{SITE}/old/__pycache__/.wh.__init__.cpython-311.pyc",
        f"{SITE}/old/tests/.wh.test_a.py",
    }
    assert not any(files.values())


def test_a_changed_wheel_changes_one_group() -> None:
    wheels = [
        LockedWheel(f"w{i}", "1", f"w{i}-1-py3-none-any.whl", f"{i:064x}", 1000) for i in range(60)
    ]
    big = LockedWheel("big", "1", "big-1-py3-none-any.whl", "f" * 64, 9 << 20)
    before = added_layers([*wheels, big], "3.11")
    assert len(before) == 9
    assert before[0].wheels == (big,)
    changed = [*wheels[1:], replace(wheels[0], sha256="e" * 64), big]
    after = {layer.key for layer in added_layers(changed, "3.11")}
    assert len({layer.key for layer in before} - after) == 1
    assert sorted(w.name for x in before for w in x.wheels) == sorted(
        w.name for w in [*wheels, big]
    )


def test_two_wheels_with_one_path_are_refused_by_name_again_and_again(tmp_path: Path) -> None:
    big = {"one/data.bin": os.urandom(9 << 20)}  # a layer of its own
    (tmp_path / "wheels").mkdir()
    paths = [
        make_wheel(tmp_path / "wheels", "one", "1.0", {"shared/a.py": "A = 1\n", **big}),
        make_wheel(tmp_path / "wheels", "two", "2.0", {"shared/a.py": "A = 2\n"}),
    ]
    wheels = tuple(ProjectWheel(locked(x), path=f"wheels/{x.name}") for x in paths)
    lock = ProjectLock("pytorch:2.3.1", "", "", "", wheels)
    base = BaseImage("pytorch:2.3.1", "", {"layers": []}, {}, (), ())
    context = Context(make_settings(tmp_path), QuietReporter(None))
    shop = Workshop(LayerStore(tmp_path / "cache"), tmp_path, context)
    for _ in range(2):  # the second time, both layers are in the cache
        with pytest.raises(WheelError, match=r"one 1.0 and two 2.0 both hold /.*/shared/a.py"):
            project_layers(project(tmp_path, **METADATA), base, lock, shop)
