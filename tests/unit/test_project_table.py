"""The table of a user's own project: what it says, and what is wrong with it."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from locking import Quiet, make_settings

from wheelyard.context import Context
from wheelyard.errors import ProjectError, UsageError
from wheelyard.projects.find import own_project
from wheelyard.projects.table import Table, find_project_table, json_schema, read_project

ROOT = Path(__file__).parents[2]

WHOLE = """\
[project]
name = "My_Model"
dependencies = ["transformers"]

[tool.wheelyard]
image = "pytorch:2.3.1"
extras = ["serve"]
groups = ["train"]
requirements = ["requirements.txt"]
find-links = ["wheels"]
packages = ["ffmpeg"]
include = ["weights/*.pt"]
exclude = ["docs"]
entrypoint = ["tini", "--"]
command = "python serve.py --host '0.0.0.0'"
ports = [8000]
workdir = "/app"

[tool.wheelyard.env]
HF_HOME = "/workspace/.cache"

[tool.wheelyard.labels]
team = "vision"
"""


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


def problems(tmp_path: Path, text: str, name: str = "wheelyard.toml") -> str:
    write(tmp_path, name, text)
    with pytest.raises(ProjectError) as caught:
        read_project(tmp_path)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_a_table_in_pyproject_is_read_whole(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", WHOLE)
    project = read_project(tmp_path)
    assert project is not None
    table = project.table
    assert (table.image, table.name) == ("pytorch:2.3.1", "my-model")
    assert (table.extras, table.groups) == (("serve",), ("train",))
    assert (table.requirements, table.find_links) == (("requirements.txt",), ("wheels",))
    assert table.entrypoint == ("tini", "--")
    assert table.command == ("python", "serve.py", "--host", "0.0.0.0")
    assert table.env == {"HF_HOME": "/workspace/.cache"}
    assert table.labels == {"team": "vision"}
    assert (table.ports, table.workdir, table.packages) == ((8000,), "/app", ("ffmpeg",))
    assert project.metadata["dependencies"] == ["transformers"]
    assert project.lock == tmp_path / "pylock.toml"


def test_a_file_of_its_own_needs_no_pyproject(tmp_path: Path) -> None:
    write(tmp_path / "Nano GPT", "wheelyard.toml", 'image = "pytorch:2.3.1"\n')
    project = read_project(tmp_path / "Nano GPT")
    assert project is not None
    assert (project.table.name, project.metadata) == ("nano-gpt", {})
    assert (project.table.command, project.table.workdir) == (None, "/workspace")


def test_two_tables_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", WHOLE)
    said = problems(tmp_path, 'image = "pytorch:2.3.1"\n')
    assert "has two tables" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('imag = "pytorch:2.3.1"\n', "wheelyard.toml:1: imag: unknown key; did you mean image?"),
        (
            'image = "a"\nfind_links = ["w"]\n',
            "wheelyard.toml:2: find_links: unknown key; did you mean find-links?",
        ),
        ('image = "a"\n\nports = [80, 70000]\n', "wheelyard.toml:3: ports[1]: 70000 is not a port"),
        ('image = "a"\nports = ["80"]\n', "ports[0]: must be a whole number, not the text '80'"),
        ('image = "a"\npackages = "git"\n', "packages: must be a list, not the text 'git'"),
        ('image = "a"\npackages = ["Git LFS"]\n', "'Git LFS' must be a Debian package name"),
        ('image = "a"\n[env]\nx = 1\n', "wheelyard.toml:3: env.x: must be text in quotes, not 1"),
        ('image = "a"\n[env]\n"a b" = "1"\n', "'a b' must be a variable's name"),
        ('image = "a"\nworkdir = "app"\n', "must be an absolute path"),
        ('image = "a"\nname = "My Model"\n', "is not a repository below the registry"),
        ('image = "a"\nname = "x.io/y"\n', "is not a repository below the registry"),
        ('image = "a"\ncommand = "python \'x"\n', "cannot be split into words"),
        ('image = "a"\nrequirements = ["/etc/r.txt"]\n', "must be relative to the project"),
        ('image = ""\n', "image: must not be empty"),
        ("", "image: is missing: name the image to build on"),
        ('image = "a\n', "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    assert said in problems(tmp_path, text)


def test_every_problem_is_listed_with_its_line_in_pyproject(tmp_path: Path) -> None:
    text = '[project]\nname = "x"\n\n[tool.wheelyard]\nimage = 1\nport = [1]\n'
    said = problems(tmp_path, text, "pyproject.toml").splitlines()
    assert said == [
        "pyproject.toml:5: image: must be text in quotes, not 1",
        "pyproject.toml:6: port: unknown key; did you mean ports?",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe[tool.wheelyard]", "is not UTF-8 text"),
        (b"[tool]\nwheelyard = 1\n", "tool.wheelyard must be a table"),
        (b"# wheelyard\n" + b"#" * (4 << 20), "is larger than 4 MiB"),
        (b"wheelyard = " + b"[" * 100_000, "is not valid TOML"),
    ],
)
def test_an_unreadable_file_is_an_error(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "pyproject.toml").write_bytes(content)
    with pytest.raises(ProjectError, match=said):
        read_project(tmp_path)


def test_the_nearest_table_upwards_is_taken(tmp_path: Path) -> None:
    write(tmp_path, "wheelyard.toml", 'image = "a"\nname = "far"\n')
    write(tmp_path / "near", "wheelyard.toml", 'image = "a"\n')
    write(tmp_path / "near" / "src", "pyproject.toml", '[project]\nname = "a"\n')
    found = find_project_table(tmp_path / "near" / "src")
    assert found is not None
    assert found.table.name == "near"


@pytest.mark.parametrize("where", [".", "deep"])
def test_a_nearer_matrix_means_the_set(tmp_path: Path, where: str) -> None:
    write(tmp_path, "wheelyard.toml", 'image = "a"\n')
    write(tmp_path / where, "matrix.yaml", "version: 1\n")
    (tmp_path / "deep").mkdir(exist_ok=True)
    assert find_project_table(tmp_path / "deep") is None


def test_a_command_without_selector_means_the_own_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "wheelyard.toml", 'image = "a"\n')
    monkeypatch.chdir(tmp_path)
    context = Context(make_settings(tmp_path), Quiet())
    args = argparse.Namespace(command="push", selector=None)
    found = own_project(args, context, needs="SELECTOR")
    assert found is not None
    assert found.folder == tmp_path
    named = argparse.Namespace(command="push", selector="pytorch-2.3")
    with pytest.raises(UsageError, match=r"no matrix\.yaml in "):
        own_project(named, context, needs="SELECTOR")
    write(tmp_path, "matrix.yaml", "version: 1\n")
    assert own_project(named, context, needs="SELECTOR") is None
    with pytest.raises(UsageError, match="the following arguments are required: SELECTOR"):
        own_project(args, context, needs="SELECTOR")
    assert own_project(args, context) is None


def test_the_page_lists_every_key_in_the_tables_order() -> None:
    page = (ROOT / "docs" / "projects.md").read_text(encoding="utf-8")
    keys = [field.alias for field in Table.model_fields.values()]
    assert re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE) == keys


def test_the_committed_schema_is_current() -> None:
    """Printed by `python -m wheelyard.projects.table`."""
    path = ROOT / "builder" / "wheelyard" / "data" / "project.schema.json"
    assert path.read_text(encoding="utf-8") == json_schema()
