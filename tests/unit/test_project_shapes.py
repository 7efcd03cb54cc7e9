"""Whatever a pyproject.toml or uv.lock holds, it is read or refused: no shape of it is a bug."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from wheelyard.errors import WheelyardError
from wheelyard.projects.look import look
from wheelyard.projects.pylock import read_lock
from wheelyard.projects.requirements import collect
from wheelyard.projects.table import read_project

PYPROJECT: dict[str, Any] = {
    "project": {
        "name": "app",
        "version": "1",
        "requires-python": ">=3.11",
        "dynamic": ["dependencies"],
        "dependencies": ["demo>=1"],
        "optional-dependencies": {"a": ["app[b]"], "b": ["x"]},
    },
    "dependency-groups": {"train": [{"include-group": "more"}, "y"], "more": ["z"]},
    "tool": {
        "setuptools": {"dynamic": {"dependencies": {"file": ["r.txt"]}}},
        "uv": {
            "constraint-dependencies": ["demo<9"],
            "override-dependencies": ["demo<8"],
            "sources": {"demo": [{"index": "own", "marker": "sys_platform == 'linux'"}]},
            "index": [{"name": "own", "url": "https://own.example/simple", "default": True}],
        },
        "wheelyard": {
            "image": "pytorch:2.3.1",
            "extras": ["a"],
            "groups": ["train"],
            "requirements": ["r.txt"],
            "env": {"A": "1"},
            "ports": [80],
            "command": ["python"],
        },
    },
}
UV_LOCK: dict[str, Any] = {
    "version": 1,
    "package": [
        {
            "name": "torch",
            "version": "2.3.1",
            "source": {"registry": "https://own.example/simple"},
            "resolution-markers": ["sys_platform == 'linux'"],
        }
    ],
}
PYLOCK: dict[str, Any] = {
    "lock-version": "1.0",
    "created-by": "wheelyard",
    "requires-python": "==3.11.*",
    "environments": ["sys_platform == 'linux' and platform_machine == 'x86_64'"],
    "packages": [
        {
            "name": "demo",
            "version": "1.0",
            "wheels": [
                {
                    "name": "demo-1.0-py3-none-any.whl",
                    "url": "https://own.example/demo-1.0-py3-none-any.whl",
                    "size": 1,
                    "hashes": {"sha256": "0" * 64},
                }
            ],
        }
    ],
    "tool": {
        "wheelyard": {
            "base": "pytorch:2.3.1",
            "base-digest": "sha256:x",
            "contents": "sha256:" + "0" * 64,
            "inputs": "sha256:" + "0" * 64,
            "shadowed": [
                {
                    "name": "demo",
                    "version": "2.0",
                    "filename": "demo-2.0-py3-none-any.whl",
                    "size": 1,
                    "sha256": "0" * 64,
                }
            ],
        }
    },
}
OTHERS: tuple[Any, ...] = (
    1,
    1.5,
    True,
    "",
    "x y",
    "../..",
    [],
    [1],
    [[]],
    {},
    {"a": 1},
    [{"a": []}],
)


def as_toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {as_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value)


def document(data: dict[str, Any]) -> str:
    return "".join(f"{key} = {as_toml(value)}\n" for key, value in data.items())


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(
        value if isinstance(value, list) else ()
    )  # fmt: skip
    for key, inner in items:
        yield from places(inner, (*path, key))


def changed(data: dict[str, Any], path: tuple[Any, ...], other: object) -> dict[str, Any]:
    made = copy.deepcopy(data)
    place: Any = made
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = other
    return made


def read(folder: Path) -> None:
    with suppress(WheelyardError):
        look(folder)
    with suppress(WheelyardError):
        project = read_project(folder)
        if project is not None:
            collect(project, "3.11").facts()


@pytest.mark.parametrize("path", list(places(PYPROJECT)), ids=lambda p: ".".join(map(str, p)))
def test_no_shape_of_pyproject_is_a_bug(tmp_path: Path, path: tuple[Any, ...]) -> None:
    (tmp_path / "r.txt").write_text("demo\n")
    for other in OTHERS:
        text = document(changed(PYPROJECT, path, other))
        (tmp_path / "pyproject.toml").write_text(text)
        read(tmp_path)


@pytest.mark.parametrize("path", list(places(UV_LOCK)), ids=lambda p: ".".join(map(str, p)))
def test_no_shape_of_uv_lock_is_a_bug(tmp_path: Path, path: tuple[Any, ...]) -> None:
    (tmp_path / "r.txt").write_text("demo\n")
    (tmp_path / "pyproject.toml").write_text(document(PYPROJECT))
    for other in OTHERS:
        (tmp_path / "uv.lock").write_text(document(changed(UV_LOCK, path, other)))
        read(tmp_path)


@pytest.mark.parametrize("path", list(places(PYLOCK)), ids=lambda p: ".".join(map(str, p)))
def test_no_shape_of_a_lock_is_a_bug(tmp_path: Path, path: tuple[Any, ...]) -> None:
    for other in OTHERS:
        (tmp_path / "pylock.toml").write_text(document(changed(PYLOCK, path, other)))
        with suppress(WheelyardError):
            read_lock(tmp_path / "pylock.toml")


def test_the_unchanged_documents_are_read(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("demo\n")
    (tmp_path / "pyproject.toml").write_text(document(PYPROJECT))
    (tmp_path / "uv.lock").write_text(document(UV_LOCK))
    (tmp_path / "pylock.toml").write_text(document(PYLOCK))
    assert len(read_lock(tmp_path / "pylock.toml").shadowed) == 1
    project = read_project(tmp_path)
    assert project is not None
    wanted = collect(project, "3.11")
    assert {"demo>=1", "demo", "x", "y", "z"} == set(wanted.requirements)
    assert [str(pin) for pin in wanted.locked] == ["torch==2.3.1"]
    assert (wanted.index, wanted.overrides) == ("https://own.example/simple", ["demo<8"])
    assert "torch" in look(tmp_path).wanted
