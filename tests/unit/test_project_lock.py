"""A project's lock: the real uv, an index on loopback, and the file that pip and uv read."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from answering import BASIC, Answer, Asked, answering
from locking import Index, Quiet, make_settings, sha256, torch_index
from uv import find_uv_bin
from wheels import make_wheel

from wheelyard.cli import main
from wheelyard.context import Context
from wheelyard.errors import FetchError, LockError, ProjectError
from wheelyard.lock.apt import installed
from wheelyard.model import LockedDeb, LockedWheel
from wheelyard.planning.catalogue import CatalogueEntry
from wheelyard.projects.files import copy_tree, tree_digest, tree_files
from wheelyard.projects.layers import fetch_wheels
from wheelyard.projects.lock import Resolution, lock_project
from wheelyard.projects.model import BaseImage, DebianLock, ProjectLock
from wheelyard.projects.packages import _architecture
from wheelyard.projects.pylock import previous_lock, read_lock, render_lock
from wheelyard.projects.requirements import collect
from wheelyard.projects.state import lock_problems
from wheelyard.projects.table import Project, read_project

ROOT = Path(__file__).parents[2]
PASSWORD = "pa55-of-the-index"
CONSTRAINTS = (
    "torch==2.3.1",
    "nvidia-cuda-runtime-cu12==12.1.105",
    "nvidia-cudnn-cu12==8.9.2.26",
    "numpy<2",
)
REFERENCE = "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11"


def entry(version: str, cuda: str = "12.1") -> CatalogueEntry:
    tag = f"pytorch:{version}-cuda{cuda}-cudnn9.1-py3.11"
    name = f"pytorch-{version}-cuda{cuda}-cudnn9.1-py3.11-runtime"
    return CatalogueEntry(name, (tag,), "pytorch", version, cuda, "9.1", "3.11", "runtime", ())


ENTRIES = (entry("2.3.1"), entry("2.4.1"), entry("2.5.1", "12.4"))


@pytest.fixture
def index(tmp_path: Path) -> Index:
    made = torch_index(tmp_path / "index")
    made.add("torch", "2.4.1", ("filelock",))
    made.add("numpy", "2.1")
    made.add("filelock", "3.9")  # newer than the base's
    made.add("demo", "1.0", ("torch>=2.1", "numpy", "filelock"))
    made.add("demo", "2.0rc1", ("torch>=2.1",))
    made.add("newer", "1.0", ("filelock>=3.5",))
    made.add("too-new", "1.0", ("torch>=2.4",))
    return made


def base(index: Index) -> BaseImage:
    """What the set's image of this index would be."""
    pins = {
        "torch": "2.3.1",
        "nvidia-cuda-runtime-cu12": "12.1.105",
        "nvidia-cudnn-cu12": "8.9.2.26",
        "filelock": "3.1",
        "numpy": "1.26.4",
    }
    wheels = []
    for name, version in sorted(pins.items()):
        file = index.folder / "files" / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        wheels.append(LockedWheel(name, version, file.name, sha256(file), file.stat().st_size))
    return BaseImage(REFERENCE, "sha256:" + "a" * 64, {}, {}, tuple(wheels), CONSTRAINTS)


def write(folder: Path, files: dict[str, str]) -> Project:
    files = {"wheelyard.toml": 'image = "pytorch:2.3.1"\nrequirements = ["r.txt"]\n'} | files
    if "pyproject.toml" in files and "[tool.wheelyard]" in files["pyproject.toml"]:
        del files["wheelyard.toml"]
    for name, text in files.items():
        path = folder / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = read_project(folder / "app")
    assert found is not None
    return found


def lock(
    index: Index,
    tmp_path: Path,
    files: dict[str, str] | str,
    previous: ProjectLock | None = None,
    **settings: object,
) -> Resolution:
    project = write(tmp_path, {"r.txt": files} if isinstance(files, str) else files)
    with index.serve() as url:
        made = make_settings(tmp_path, url, **settings)
        return lock_project(project, base(index), previous, ENTRIES, made)


def versions(made: Resolution | ProjectLock) -> dict[str, str]:
    found = made.lock if isinstance(made, Resolution) else made
    return {item.wheel.name: item.wheel.version for item in found.wheels}


def refused(index: Index, tmp_path: Path, files: dict[str, str] | str) -> str:
    with pytest.raises((LockError, ProjectError)) as caught:
        lock(index, tmp_path, files)
    return str(caught.value)


def test_the_bases_versions_are_kept_and_only_the_rest_is_added(
    index: Index, tmp_path: Path
) -> None:
    made = lock(index, tmp_path, "demo\n").lock
    assert versions(made) == {
        "demo": "1.0", "torch": "2.3.1", "filelock": "3.1", "numpy": "1.26.4",
        "nvidia-cuda-runtime-cu12": "12.1.105", "nvidia-cudnn-cu12": "8.9.2.26",
    }  # fmt: skip
    (added,) = made.added(base(index))
    file = index.folder / "files" / "demo-1.0-py3-none-any.whl"
    assert (added.wheel.name, added.wheel.size) == ("demo", file.stat().st_size)
    assert added.url is not None
    assert added.url.endswith("/files/demo-1.0-py3-none-any.whl")
    assert made.shadowed == ()


def test_what_must_differ_is_shadowed_with_what_depends_on_it(index: Index, tmp_path: Path) -> None:
    made = lock(index, tmp_path, "newer\n")
    assert versions(made) == {"filelock": "3.9", "newer": "1.0"}
    assert [(wheel.name, wheel.version) for wheel in made.lock.shadowed] == [("filelock", "3.1")]
    assert "filelock 3.1 of the base is replaced by 3.9" in made.notes


@pytest.mark.parametrize(
    ("update", "replaced"), [(True, {"filelock", "leaning"}), (False, {"filelock"})]
)
def test_what_else_of_the_base_needs_what_is_replaced_moves_too_or_is_named(
    index: Index, tmp_path: Path, update: bool, replaced: set[str]
) -> None:
    file = index.add("leaning", "1.0", ("filelock<3.5",))
    if update:
        index.add("leaning", "1.1", ("filelock",))
    lower = base(index)
    leaning = LockedWheel("leaning", "1.0", file.name, "0" * 64, file.stat().st_size)
    lower = replace(lower, wheels=(*lower.wheels, leaning))
    project = write(tmp_path, {"r.txt": "newer\n"})
    with index.serve() as url:
        made = lock_project(project, lower, None, (), make_settings(tmp_path, url))
    assert {wheel.name for wheel in made.lock.shadowed} == replaced
    assert any("may break other parts of the base" in note for note in made.notes) is not update


def test_locked_versions_stay_until_an_upgrade(index: Index, tmp_path: Path) -> None:
    first = lock(index, tmp_path, "newer\n").lock
    index.add("newer", "1.1", ("filelock>=3.5",))
    index.add("filelock", "3.10")
    assert versions(lock(index, tmp_path, "newer\n", first)) == versions(first)
    assert versions(lock(index, tmp_path, "newer\n")) == {"filelock": "3.10", "newer": "1.1"}


def test_the_file_is_read_back_and_installed_by_uv_and_pip(index: Index, tmp_path: Path) -> None:
    project = write(tmp_path, {"r.txt": "demo\nnewer\nlocal @ ./wheels/local-3.0-py3-none-any.whl"})
    (project.folder / "wheels").mkdir()
    make_wheel(project.folder / "wheels", "local", "3.0")
    with index.serve() as url:
        settings = make_settings(tmp_path, url)
        # Both refuse the lock of another Python than the one that they install for.
        image = replace(base(index), python=".".join(map(str, sys.version_info[:2])))
        made = lock_project(project, image, None, (), settings).lock
        text = render_lock(made)
        project.lock.write_text(text)
        assert read_lock(project.lock) == made
        assert str(tmp_path) not in text
        target = tmp_path / "env"
        uv = [find_uv_bin(), "--no-config", "--no-cache", "pip", "sync", "--target", str(target)]
        uv += ["--python", sys.executable, "--preview", str(project.lock)]
        subprocess.run(uv, check=True, capture_output=True)
        assert {path.name for path in target.glob("*.dist-info")} >= {
            "demo-1.0.dist-info", "filelock-3.9.dist-info", "local-3.0.dist-info",
        }  # fmt: skip
        pip = [sys.executable, "-m", "pip", "--isolated", "install", "--dry-run", "--report", "-"]
        pip += ["--quiet", "--ignore-installed", "--no-index", "-r", str(project.lock)]
        report = json.loads(subprocess.run(pip, check=True, capture_output=True).stdout)
        found = {item["metadata"]["name"].replace("_", "-") for item in report["install"]}
        assert found == set(versions(made))


def test_extras_groups_and_constraints_of_pyproject(index: Index, tmp_path: Path) -> None:
    index.add("extra-a", "1.0")
    index.add("extra-b", "1.0")
    index.add("grouped", "1.0")
    index.add("grouped", "2.0")
    text = """\
[project]
name = "app"
dependencies = ["numpy"]
[project.optional-dependencies]
all = ["app[B]", "extra-a"]
b = ["extra-b"]
[dependency-groups]
train = [{include-group = "More_Of"}]
more-of = ["grouped"]
[tool.uv]
constraint-dependencies = ["grouped<2"]
[tool.wheelyard]
image = "pytorch:2.3.1"
extras = ["All"]
groups = ["Train"]
"""
    found = versions(lock(index, tmp_path, {"pyproject.toml": text}))
    assert found == {"numpy": "1.26.4", "extra-a": "1.0", "extra-b": "1.0", "grouped": "1.0"}


def test_requirements_files_include_each_other(index: Index, tmp_path: Path) -> None:
    files = {
        "r.txt": "-r sub/more.txt  # a comment\n-c bounds.txt\nnewer \\\n ; python_version > '3'",
        "sub/more.txt": "-r ../r.txt\ndemo; sys_platform == 'linux'\nnumpy; sys_platform=='win32'",
        "bounds.txt": "filelock<3.9,>=3.5\n",
    }
    index.add("filelock", "3.6")
    found = versions(lock(index, tmp_path, files))
    assert (found["newer"], found["demo"], found["filelock"]) == ("1.0", "1.0", "3.6")


def test_a_file_in_utf_16_is_read(index: Index, tmp_path: Path) -> None:
    project = write(tmp_path, {"r.txt": ""})
    (project.folder / "r.txt").write_bytes("newer==1.0\r\n".encode("utf-16"))
    with index.serve() as url:
        made = lock_project(project, base(index), None, (), make_settings(tmp_path, url))
    assert "newer" in versions(made)


def test_another_build_of_the_framework_is_the_bases_own(index: Index, tmp_path: Path) -> None:
    text = "--extra-index-url https://download.pytorch.org/whl/cu121\ntorch==2.3.1+cu121\n"
    made = lock(index, tmp_path, text)
    assert versions(made)["torch"] == "2.3.1"
    assert "torch==2.3.1+cu121: the base has torch 2.3.1" in made.notes
    assert any("is left out: the base image has its builds" in note for note in made.notes)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("torch==2.4.1", 'image = "pytorch:2.4.1-cuda12.1-cudnn9.1-py3.11"'),
        ("torch==2.4.1+cu124", 'image = "pytorch:2.4.1-cuda12.1-cudnn9.1-py3.11"'),
        ("torch>=2.4", 'image = "pytorch:2.5.1-cuda12.4-cudnn9.1-py3.11"'),
        ("torch==1.13.1", "no image of the set has torch==1.13.1"),
        ("too-new", 'image = "pytorch:2.5.1-cuda12.4-cudnn9.1-py3.11"'),
    ],
)
def test_another_torch_is_answered_with_the_image_that_has_it(
    index: Index, tmp_path: Path, line: str, hint: str
) -> None:
    assert hint in refused(index, tmp_path, f"{line}\n")


def test_a_build_of_pytorchs_index_is_the_indexs_own_unless_a_source_may_have_it(
    index: Index, tmp_path: Path
) -> None:
    made = lock(index, tmp_path, "newer==1.0+cu121\n")
    assert versions(made)["newer"] == "1.0"
    assert "newer==1.0+cu121: newer==1.0 is taken" in made.notes
    (tmp_path / "app" / "wheels").mkdir()
    make_wheel(tmp_path / "app" / "wheels", "newer", "1.0+cu121")
    made = lock(index, tmp_path, "--find-links wheels\nnewer==1.0+cu121\n")
    assert versions(made)["newer"] == "1.0+cu121"


def test_another_build_of_the_framework_in_an_own_index_is_refused(
    index: Index, tmp_path: Path
) -> None:
    own = Index(tmp_path / "own")
    own.add("torch", "2.3.1+own", ("filelock",))
    with own.serve() as url:
        said = refused(index, tmp_path, f"--extra-index-url {url}\ndemo\n")
    assert "torch 2.3.1+own, another build than the base's 2.3.1" in said


def test_the_bases_own_file_stays_where_the_index_has_another_since(
    index: Index, tmp_path: Path
) -> None:
    lower = base(index)
    file = index.folder / "files" / "filelock-3.1-py3-none-any.whl"
    better = make_wheel(tmp_path, "filelock", "3.1", {"filelock/new.py": ""})
    better.rename(file.with_name("filelock-3.1-cp311-cp311-manylinux_2_17_x86_64.whl"))
    project = write(tmp_path, {"r.txt": "demo\n"})
    with index.serve() as url:
        made = lock_project(project, lower, None, (), make_settings(tmp_path, url)).lock
    (found,) = [item for item in made.wheels if item.wheel.name == "filelock"]
    assert found.wheel in lower.wheels
    assert found.url is not None
    assert found.url.endswith(f"/files/{file.name}")


def test_a_bound_of_the_base_is_named(index: Index, tmp_path: Path) -> None:
    said = refused(index, tmp_path, "numpy>=2\n")
    assert "numpy>=2" in said
    assert "numpy<2" in said


UV_LOCK = """\
version = 1
requires-python = ">=3.11"
[[package]]
name = "demo"
version = "1.0"
source = { registry = "https://index.example/simple" }
[[package]]
name = "newer"
version = "1.0"
source = { registry = "https://index.example/simple" }
[[package]]
name = "filelock"
version = "3.6"
source = { registry = "https://index.example/simple" }
resolution-markers = ["python_full_version < '3.12'"]
[[package]]
name = "filelock"
version = "3.9"
source = { registry = "https://index.example/simple" }
resolution-markers = ["python_full_version >= '3.12'"]
[[package]]
name = "torch"
version = "2.3.1+cu121"
source = { registry = "https://download.pytorch.org/whl/cu121" }
[[package]]
name = "app"
version = "0.1"
source = { virtual = "." }
"""


def test_the_versions_of_uv_lock_are_honoured(index: Index, tmp_path: Path) -> None:
    index.add("newer", "1.1", ("filelock>=3.5",))
    index.add("filelock", "3.6")
    made = lock(index, tmp_path, {"r.txt": "demo\nnewer\n", "uv.lock": UV_LOCK})
    found = versions(made)
    assert (found["newer"], found["filelock"], found["torch"]) == ("1.0", "3.6", "2.3.1")


def test_a_uv_lock_that_contradicts_the_base_is_named(index: Index, tmp_path: Path) -> None:
    numpy = UV_LOCK.replace('name = "newer"\nversion = "1.0"', 'name = "numpy"\nversion = "2.1"')
    said = refused(index, tmp_path, {"r.txt": "demo\n", "uv.lock": numpy})
    assert "uv.lock has numpy 2.1, but the image fixes numpy<2" in said
    torch = UV_LOCK.replace("2.3.1+cu121", "2.4.1+cu121")
    said = refused(index, tmp_path, {"r.txt": "demo\n", "uv.lock": torch})
    assert 'image = "pytorch:2.4.1-cuda12.1-cudnn9.1-py3.11"' in said


def test_wheels_of_folders_files_and_addresses(index: Index, tmp_path: Path) -> None:
    project = write(tmp_path, {"r.txt": ""})
    (project.folder / "my wheels").mkdir()
    make_wheel(project.folder / "my wheels", "foldered", "1.0")
    make_wheel(project.folder, "local", "3.0")
    (index.folder / "other").mkdir()
    far = make_wheel(index.folder / "other", "far", "4.0")
    with index.serve() as url:
        root = url.removesuffix("simple/")
        (project.folder / "r.txt").write_text(
            "--find-links 'my wheels'\nfoldered\n"
            "./local-3.0-py3-none-any.whl[more] ; python_version > '3'\n"
            "./local-3.0-py3-none-any.whl ; sys_platform == 'win32'\n"
            f"far @ {root}other/{far.name}\n"
        )
        made = lock_project(project, base(index), None, (), make_settings(tmp_path, url)).lock
    found = {item.wheel.name: item for item in made.wheels}
    assert found["foldered"].path == "my wheels/foldered-1.0-py3-none-any.whl"
    assert found["local"].path == "local-3.0-py3-none-any.whl"
    assert found["far"].url == f"{root}other/{far.name}"
    assert found["far"].wheel.size == far.stat().st_size
    project.lock.write_text(render_lock(made))
    assert read_lock(project.lock) == made
    assert lock_problems(project, made, None) == []
    make_wheel(project.folder, "local", "3.0", {"local/__init__.py": "changed = 1\n"})
    assert lock_problems(project, made, None) == [
        "local-3.0-py3-none-any.whl is missing, or another file than was locked"
    ]


def test_a_hash_that_does_not_match_is_refused(index: Index, tmp_path: Path) -> None:
    said = refused(index, tmp_path, f"newer==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    assert "newer-1.0-py3-none-any.whl has a hash that the requirements file does not list" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("git+https://host.example/a/b.git\n", "is not a wheel"),
        ("b @ git+https://host.example/a/b.git@v1\n", "pip wheel --no-deps --wheel-dir wheels"),
        ("https://host.example/b-1.0.tar.gz\n", "is not a wheel"),
        ("-e ./sub\n", "r.txt:1: sub does not exist here"),
        ("-e .git\n", "r.txt:1: .git does not exist here"),
        ("libs/sub ; sys_platform == 'linux'\n", "r.txt:1: libs/sub does not exist here"),
        (
            "x @ file:///croot/x_1/work\n",
            "/croot/x_1/work does not exist here; `pip freeze` writes",
        ),
        ("numpy = 1.26.4\n", "pip needs numpy==1.26.4"),
        ("b @ git+https://u:secret@host.example/a.git\n", "holds a login"),
        ("b @ git+https://secret@host.example/a.git\n", "holds a login"),
        ("https://u:secret@host.example/b-1.0.tar.gz\n", "holds a login"),
        ("./b-1.0.tar.gz\n", "r.txt:1: b-1.0.tar.gz does not exist here"),
        ("hg+https://host.example/a/b\n", "a/b is a repository of hg; of repositories, only those"),
        ("b @ svn+https://host.example/a/b@7#egg=b\n", "is a repository of svn"),
        ("-e bzr+https://host.example/a/b\n", "is a repository of bzr"),
        ("numpy @ file:///croot/numpy-1.26.4-cp311-cp311-linux_x86_64.whl\n", "conda's"),
        ("numpy=1.26.4=py311_0\n", "pip needs numpy==1.26.4"),
        ("x @ https://u:secret@host.example/x-1-py3-none-any.whl\n", "holds a login"),
        ("-r missing.txt\n", "cannot be read: No such file"),
        ("-r https://host.example/r.txt\n", "copy that file into the project"),
        ("--indexurl x\n", "--indexurl is not an option"),
        ("!!\n", "r.txt:1: '!!'"),
        ("demo\n--index-url https://${WHEELYARD_NOT_SET}@h.example/\n", "WHEELYARD_NOT_SET"),
    ],
)
def test_what_cannot_be_taken_says_what_to_do(
    index: Index, tmp_path: Path, text: str, said: str
) -> None:
    found = refused(index, tmp_path, text)
    assert said in found
    assert "secret" not in found


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('extras = ["serv"]', "has no extra 'serv'; did you mean serve?"),
        ('groups = ["trian"]', "has no dependency group 'trian'; did you mean train?"),
        ('groups = ["loop"]', "dependency-groups: "),
        ('requirements = ["none.txt"]', "none.txt cannot be read: No such file or directory"),
        ('find-links = ["none"]', "none is not a folder"),
    ],
)
def test_unknown_names_of_the_table(index: Index, tmp_path: Path, table: str, said: str) -> None:
    text = f"""\
[project]
name = "app"
[project.optional-dependencies]
serve = ["demo"]
[dependency-groups]
train = ["demo"]
loop = [{{include-group = "loop"}}]
[tool.wheelyard]
image = "pytorch:2.3.1"
{table}
"""
    assert said in refused(index, tmp_path, {"pyproject.toml": text})


def test_the_project_itself_is_left_to_the_build(index: Index, tmp_path: Path) -> None:
    made = lock(index, tmp_path, "-e .\nnewer\n")
    assert "newer" in versions(made)
    assert "r.txt:1: the project itself goes in with its code" in made.notes


def test_all_that_has_no_wheel_is_named_and_how_to_bring_one(index: Index, tmp_path: Path) -> None:
    for name in ("sdist-only", "other"):
        page = index.folder / "simple" / name / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text(f'<a href="/files/{name}-1.0.tar.gz#sha256={"0" * 64}">x</a>')
    said = refused(index, tmp_path, "sdist-only==1.0\nother\nnewer\n")
    assert "no wheel for Python 3.11 on Linux x86_64: other==1.0, sdist-only==1.0; ask" in said
    run = "wheelyard run pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11-devel pip wheel --no-deps"
    assert f"{run} --wheel-dir wheels other==1.0 sdist-only==1.0\n" in said
    index.add("sdist-only", "1.0")
    index.add("other", "1.0")
    for path in (index.folder / "files").glob("[so][dt]*-1.0-*.whl"):
        path.rename(tmp_path / "app" / path.name)
    found = lock(index, tmp_path, "--find-links .\nsdist-only==1.0\nother\n")
    assert versions(found) == {"sdist-only": "1.0", "other": "1.0"}


def test_sources_of_uv_and_of_other_environments(tmp_path: Path) -> None:
    text = """\
[project]
name = "app"
dependencies = ["one[fast]", "two ; python_version < '3'", "three"]
[tool.uv.sources]
one = {git = "https://host.example/a/one", tag = "v1", subdirectory = "python"}
three = {url = "https://host.example/three-1.0.tar.gz"}
[tool.wheelyard]
image = "pytorch:2.3.1"
requirements = ["r.txt"]
"""
    more = (
        "four @ git+https://${TOKEN}@host.example/four.git ; sys_platform == 'win32'\n"
        "-e git+https://host.example/five.git@v2#egg=Five&subdirectory=py\n"
    )
    project = write(tmp_path, {"pyproject.toml": text, "r.txt": more})
    wanted = collect(project, "3.11")
    assert [str(source) for source in wanted.sources] == [
        'four @ git+https://${TOKEN}@host.example/four.git ; sys_platform == "win32"',
        "five @ git+https://host.example/five.git@v2#subdirectory=py",
        "one[fast] @ git+https://host.example/a/one@v1#subdirectory=python",
        "three @ https://host.example/three-1.0.tar.gz",
    ]
    assert wanted.requirements == ["two ; python_version < '3'"]
    assert len(wanted.facts()["sources"]) == 4


def folder_of(root: Path, name: str, more: str = "", requires: str = "") -> None:
    root.mkdir(parents=True, exist_ok=True)
    text = f'[project]\nname = "{name}"\nversion = "1"\ndependencies = [{requires}]\n{more}'
    (root / "pyproject.toml").write_text(text)


def test_folders_of_a_workspace_and_of_paths_are_sources(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    workspace = """[tool.uv.workspace]
members = ["packages/*", "app"]
exclude = ["packages/old"]
[tool.uv.sources]
core = {workspace = true}
side = {path = "side"}
"""
    folder_of(root, "root", workspace)
    (root / "uv.lock").write_text(
        'version = 1\n[[package]]\nname = "demo"\nversion = "1.0"\n'
        'source = {registry = "https://index.example/simple"}\n'
    )
    folder_of(root / "packages/core", "core", requires='"side[fast]>=1"')
    folder_of(root / "packages/old", "core")
    folder_of(root / "side", "side", "[project.optional-dependencies]\nfast = ['deep']\n"
              "[tool.uv.sources]\ndeep = {path = '../deep'}\n")  # fmt: skip
    folder_of(root / "deep", "deep")
    table = '[tool.wheelyard]\nimage = "pytorch:2.3.1"\nrequirements = ["r.txt"]\n'
    folder_of(root / "app", "app", table, requires="\"core[x] ; os_name == 'posix'\", 'demo'")
    (root / "app/r.txt").write_text("-e ../deep#egg=deep\n-e .\n../side[fast]\n")
    project = read_project(root / "app")
    assert project is not None
    wanted = collect(project, "3.11")
    assert [str(source) for source in wanted.sources] == [
        "deep @ project:../deep/",
        "project:../side/",
        'core[x] @ project:../packages/core/ ; os_name == "posix"',
    ]  # what `core` needs is there already
    assert wanted.sources[1].extras == "[fast]"
    assert wanted.requirements == ["demo"]
    assert [str(pin) for pin in wanted.locked] == ["demo==1.0"]


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ("core = {workspace = true}", "core is not a member of the uv workspace of"),
        ('core = {path = "../none"}', "none does not exist here"),
        ('core = {path = ".."}', "has neither pyproject.toml nor setup.py"),
        ("core = {}", "core is neither a wheel, nor something of which one can be built"),
    ],
)
def test_a_source_of_uv_that_is_not_there(tmp_path: Path, sources: str, said: str) -> None:
    table = f'[tool.uv.sources]\n{sources}\n[tool.wheelyard]\nimage = "pytorch:2.3.1"\n'
    folder_of(tmp_path / "app", "app", table, requires="'core'")
    project = read_project(tmp_path / "app")
    assert project is not None
    with pytest.raises(ProjectError, match=said):
        collect(project, "3.11")


@pytest.mark.parametrize("members", ['["/x"]', '["**/../.."]', '[""]', '"packages/*"', "[1]"])
def test_no_shape_of_a_workspace_is_a_bug(tmp_path: Path, members: str) -> None:
    folder_of(tmp_path, "root", f"[tool.uv.workspace]\nmembers = {members}\n")
    folder_of(tmp_path / "app", "app", '[tool.wheelyard]\nimage = "pytorch:2.3.1"\n')
    project = read_project(tmp_path / "app")
    assert project is not None
    with suppress(ProjectError):
        assert collect(project, "3.11").sources == []


def test_what_changes_a_folder_of_which_a_wheel_is_built(tmp_path: Path) -> None:
    project = write(tmp_path, {"r.txt": "demo\n", "lib/a.py": "", "lib/b.py": ""})
    library = project.folder / "lib"

    def digest() -> str:
        return tree_digest(tree_files(library, project))

    before = digest()
    (library / "__pycache__").mkdir()
    for name in ("__pycache__/a.pyc", "../pylock.toml"):
        (library / name).write_text("x")
    (library / "lib.egg-info").mkdir()
    (library / "lib.egg-info/PKG-INFO").write_text("x")
    assert digest() == before
    seen = {before}
    for change in (
        lambda: (library / "a.py").chmod(0o755),
        lambda: (library / "b.py").write_text("1"),
        lambda: (library / "b.py").rename(library / "c.py"),
        lambda: (library / "d.py").symlink_to("c.py"),
    ):
        change()
        assert digest() not in seen
        seen.add(digest())
    whole = tree_digest(tree_files(project.folder, project))
    (project.folder / "wheels").mkdir()
    (project.folder / "wheels/lib-1-py3-none-any.whl").write_text("x")
    assert tree_digest(tree_files(project.folder, project)) == whole  # a folder above the project
    target = tmp_path / "copy"
    target.mkdir()
    assert copy_tree(tree_files(library, project), target) == digest()


def test_debian_packages_are_in_the_lock(index: Index, tmp_path: Path) -> None:
    made = lock(index, tmp_path, "newer\n").lock
    deb = LockedDeb(
        "libgl1", "1.6.0-1", "amd64", "a" * 64, 88, "debian", "pool/main/libg/libgl1_1.6+b_x.deb"
    )
    debian = DebianLock("b" * 64, "20261127T021032Z", (deb,))
    path = tmp_path / "pylock.toml"
    path.write_text(render_lock(replace(made, debian=debian)))
    assert read_lock(path) == replace(made, debian=debian)
    text = path.read_text()
    for old, new in (
        ("pool/main", "../main"),
        ("20261127T", "today"),
        ("b" * 64, "b"),
        ("a" * 64, ""),
    ):
        path.write_text(text.replace(old, new))
        with pytest.raises(LockError, match="cannot be used"):
            read_lock(path)


def test_dpkgs_status_says_what_is_installed_and_for_what() -> None:
    state = "Status: install ok installed"
    status = (
        f"Package: apt\n{state}\nArchitecture: all\nVersion: 1:2.6\n\n"
        f"Package: dpkg\nEssential: yes\n{state}\nArchitecture: arm64\nVersion: 2\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: arm64\nVersion: 3\n"
    ).encode()
    assert installed(status.decode()) == {"apt": "1:2.6", "dpkg": "2"}
    assert _architecture(status) == "arm64"
    with pytest.raises(ProjectError, match="does not say what processors"):
        _architecture(b"")


def test_a_base_for_arm64_takes_its_wheels_and_its_markers(index: Index, tmp_path: Path) -> None:
    for machine in ("x86_64", "aarch64"):
        file = make_wheel(index.folder / "files", "fast", "1.0", {"fast.py": f"M = '{machine}'\n"})
        file.rename(file.with_name(f"fast-1.0-py3-none-manylinux_2_17_{machine}.whl"))
    lines = "fast\ndemo ; platform_machine == 'aarch64'\nnewer ; platform_machine == 'x86_64'\n"
    project = write(tmp_path, {"r.txt": lines})
    found = {}
    with index.serve() as url:
        settings = make_settings(tmp_path, url)
        for machine in ("x86_64", "aarch64"):
            stands_on = replace(base(index), platform=f"{machine}-manylinux_2_36")
            made = lock_project(project, stands_on, None, ENTRIES, settings).lock
            text = render_lock(made)
            assert f"platform_machine == '{machine}'" in text
            path = tmp_path / "pylock.toml"
            path.write_text(text, encoding="utf-8")
            assert read_lock(path) == made
            assert lock_problems(project, made, stands_on) == []
            found[machine] = {item.wheel.filename for item in made.added(stands_on)}
            path.write_text(text.replace(machine, "riscv64"), encoding="utf-8")
            with pytest.raises(LockError, match="must name one platform_machine"):
                read_lock(path)
    assert found["x86_64"] > {"fast-1.0-py3-none-manylinux_2_17_x86_64.whl"}
    assert found["aarch64"] == {
        "fast-1.0-py3-none-manylinux_2_17_aarch64.whl", "demo-1.0-py3-none-any.whl",
    }  # fmt: skip


def test_a_wheel_for_another_python_is_said_to_be_one(index: Index, tmp_path: Path) -> None:
    file = make_wheel(index.folder / "files", "oldpy", "1.0")
    file.rename(file.with_name("oldpy-1.0-cp38-cp38-manylinux_2_17_x86_64.whl"))
    assert "no wheel for this Python (3.11, Linux x86_64)" in refused(index, tmp_path, "oldpy\n")


def test_a_pre_release_is_taken_only_where_it_is_named(index: Index, tmp_path: Path) -> None:
    assert versions(lock(index, tmp_path, "demo\n"))["demo"] == "1.0"
    assert versions(lock(index, tmp_path, "demo==2.0rc1\n"))["demo"] == "2.0rc1"


def test_a_distribution_that_has_only_pre_releases_is_taken_and_named(
    index: Index, tmp_path: Path
) -> None:
    index.add("always-beta", "0.9b1")
    index.add("telemetry", "2.0", ("always-beta==0.9b1",))
    index.add("telemetry", "1.0")
    made = lock(index, tmp_path, "telemetry\n")
    assert versions(made) == {"telemetry": "2.0", "always-beta": "0.9b1"}
    assert "always-beta 0.9b1 is a pre-release: it has no other versions" in made.notes


def test_a_pre_release_in_the_place_of_releases_without_wheels_is_refused(
    index: Index, tmp_path: Path
) -> None:
    index.add("deep", "0.3.1.dev5")
    index.publish()
    page = index.folder / "simple" / "deep" / "index.html"
    sdist = f'<a href="/files/deep-0.19.2.tar.gz#sha256={"0" * 64}">deep-0.19.2.tar.gz</a>'
    whole = page.read_text().replace("</body>", f"{sdist}</body>")
    index.before = lambda _path, _agent: (page.write_text(whole), None)[1]
    said = refused(index, tmp_path, "deep\n")
    assert "only the pre-release 0.3.1.dev5 has; to have that one, name it" in said
    assert "--wheel-dir wheels deep==0.19.2\n" in said
    assert versions(lock(index, tmp_path, "deep==0.3.1.dev5\n")) == {"deep": "0.3.1.dev5"}


def offer_sdists(index: Index, name: str, *found: str) -> None:
    """List source distributions that cannot be fetched, beside the wheels of the name."""
    index.publish()
    page = index.folder / "simple" / name / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    wheels = page.read_text().replace("</body></html>", "") if page.is_file() else "<html><body>"
    links = "".join(
        f'<a href="/files/{name}-{version}.tar.gz#sha256={"0" * 64}" '
        f'data-requires-python="{python}">{name}-{version}.tar.gz</a>'
        for version, _, python in (text.partition(";") for text in found)
    )
    page.write_text(f"{wheels}{links}</body></html>")
    index.publish = lambda: None  # type: ignore[method-assign]


@pytest.fixture
def hydra(index: Index) -> Index:
    """Its newest versions need what has sources alone; one of years ago does not."""
    index.add("hydra-core", "0.11.3")
    index.add("hydra-core", "1.2.0", ("grammar==4.8",))
    index.add("hydra-core", "1.3.2", ("grammar==4.9.*",))
    offer_sdists(index, "grammar", "4.8", "4.9.3", "4.9.4;>=3.12", "4.13.2")
    return index


def test_an_old_version_for_want_of_a_wheel_is_named_with_the_newest(
    hydra: Index, tmp_path: Path
) -> None:
    made = lock(hydra, tmp_path, "hydra-core\n")
    assert versions(made) == {"hydra-core": "0.11.3"}
    (older,) = made.older
    assert (older.name, older.version, older.newest) == ("hydra-core", "0.11.3", "1.3.2")
    needs = "hydra-core==1.3.2 needs grammar==4.9.3, which has no wheel that fits; images are made"
    assert older.why.startswith(needs)
    assert "--wheel-dir wheels grammar==4.9.3\n" in older.why
    assert "require hydra-core==1.3.2, or hydra-core==0.11.3" in str(older)
    # What was said once, or decided by the user, is not said again.
    assert lock(hydra, tmp_path, "hydra-core\n", made.lock).older == ()
    assert lock(hydra, tmp_path, "hydra-core<1\n").older == ()
    assert "no wheel for Python 3.11 on Linux x86_64: grammar==4.9.3; ask for" in refused(
        hydra, tmp_path, "hydra-core==1.3.2\n"
    )


def test_an_old_version_of_a_dependency_is_named_too(hydra: Index, tmp_path: Path) -> None:
    hydra.folder.joinpath("simple/user").mkdir()
    wheel = hydra.add("user", "1.0", ("hydra-core",))
    page = hydra.folder / "simple" / "user" / "index.html"
    page.write_text(f'<html><a href="/files/{wheel.name}#sha256={sha256(wheel)}">{wheel.name}</a>')
    assert [older.newest for older in lock(hydra, tmp_path, "user\n").older] == ["1.3.2"]


def test_a_release_of_sources_alone_is_named(index: Index, tmp_path: Path) -> None:
    index.add("deep", "0.3")
    index.add("patched", "1.2.1")
    offer_sdists(index, "deep", "0.19.2", "0.20;>=3.12")
    offer_sdists(index, "patched", "1.2.9")  # near enough: its wheel is preferred
    made = lock(index, tmp_path, "deep\npatched\n")
    assert versions(made) == {"deep": "0.3", "patched": "1.2.1"}
    ((name, newest),) = [(older.name, older.newest) for older in made.older]
    assert (name, newest) == ("deep", "0.19.2")


def test_an_older_release_of_sources_alone_is_not_taken_for_a_newer_one(
    index: Index, tmp_path: Path
) -> None:
    """Nobody knows what it needs, so it would fit wherever what the newer one needs does not."""
    index.add("judge", "0.3")
    index.add("judge", "0.4.9", ("words", "rouge"))
    offer_sdists(index, "judge", "0.4.1")
    offer_sdists(index, "words", "1.0")
    offer_sdists(index, "rouge", "1.0")
    (older,) = lock(index, tmp_path, "judge\n").older
    assert (older.version, older.newest, older.possible) == ("0.3", "0.4.9", "0.4.9")
    # Where no version has a wheel and all that it needs, either.
    assert "wheel for Python 3.11 on Linux x86_64: rouge==1.0, words==1.0; ask for" in refused(
        index, tmp_path, "judge>0.3\n"
    )


def test_a_patch_release_that_needs_a_source_is_named(index: Index, tmp_path: Path) -> None:
    """As lm-eval 0.4.1 would be without a word, because 0.4.2 needs word2number."""
    index.add("judge", "0.4.1")
    index.add("judge", "0.4.9", ("words",))
    offer_sdists(index, "words", "1.0")
    made = lock(index, tmp_path, "judge\n")
    ((older, newest),) = [(older, older.newest) for older in made.older]
    assert (older.name, older.version, newest) == ("judge", "0.4.1", "0.4.9")
    assert older.why.startswith("judge==0.4.9 needs words==1.0, which has no wheel that fits;")
    assert lock(index, tmp_path, "judge<0.4.9\n").older == ()


def test_no_source_is_fetched_or_run_to_learn_what_is_newest(index: Index, tmp_path: Path) -> None:
    index.add("deep", "0.3")
    offer_sdists(index, "deep", "0.19.2")
    asked = list[str]()
    index.before = lambda path, _agent: asked.append(path)
    assert [older.newest for older in lock(index, tmp_path, "deep\n").older] == ["0.19.2"]
    assert "/simple/deep/" in asked
    assert not [path for path in asked if path.endswith(".tar.gz")]


def test_the_base_is_why_a_version_is_old_and_bounds_of_others_are_not_named(
    index: Index, tmp_path: Path
) -> None:
    index.add("trainer", "1.9", ("torch>=2.1", "hub<1"))
    index.add("trainer", "2.0", ("torch>=2.4",))
    index.add("hub", "0.36")
    index.add("hub", "1.2")
    made = lock(index, tmp_path, "trainer\n")
    assert versions(made)["trainer"] == "1.9"
    (older,) = made.older
    assert (older.name, older.newest) == ("trainer", "2.0")
    assert older.why.startswith("Because trainer>=2.0 depends on torch>=2.4 and torch==2.3.1,")
    assert older.why.endswith(
        'unsatisfiable; torch>=2.4: an image of the set has it: image = "'
        'pytorch:2.5.1-cuda12.4-cudnn9.1-py3.11"'
    )


def test_what_does_not_fit_even_with_a_wheel_is_said_to_be_a_conflict(
    hydra: Index, tmp_path: Path
) -> None:
    """Nothing need be built that the rest of the requirements excludes."""
    said = refused(hydra, tmp_path, "hydra-core==1.3.2\ngrammar==4.13.2\n")
    assert "depends on grammar==4.9.*" in said
    assert "--wheel-dir" not in said


@contextmanager
def guarded(folder: Path, **more: str) -> Iterator[str]:
    """An index with the package `inner` that only `me` may read, by a password."""
    index = Index(folder)
    index.add("inner", "1.0")
    for name, version in more.items():
        index.add(name, version)
    index.publish()
    login = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()

    def answer(asked: Asked) -> Answer:
        if asked.login != login:
            return BASIC
        path = folder / asked.path.strip("/")
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            return Answer(404)
        kind = "text/html" if path.suffix == ".html" else "application/octet-stream"
        return Answer(200, {"Content-Type": kind}, (path.read_bytes(),))

    with answering(answer) as origin:
        yield f"{origin.url}/simple/"


def test_a_private_index_is_read_and_its_login_is_not_in_the_lock(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INNER_TOKEN", PASSWORD)
    with guarded(tmp_path / "private") as url:
        named = url.replace("//", "//me:${INNER_TOKEN}@")
        made = lock(index, tmp_path, f"--extra-index-url {named}\ninner\n").lock
        text = render_lock(made)
        project = read_project(tmp_path / "app")
        assert project is not None
        context = Context(make_settings(tmp_path), Quiet())
        (found,) = fetch_wheels(made.wheels, project, "3.11", context).values()
        assert found.name == "inner-1.0-py3-none-any.whl"
    assert versions(made) == {"inner": "1.0"}
    assert PASSWORD not in text
    assert "@" not in text


def test_an_explicit_index_is_asked_for_its_own_distributions_alone(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uv's `explicit = true`, with the login in the variables that uv reads."""
    table = """\
[project]
name = "app"
version = "1"
dependencies = ["inner>=0.5", "newer"]
[tool.uv.sources]
inner = {index = "Corp.net"}
[[tool.uv.index]]
name = "Corp.net"
url = "%s"
explicit = true
[tool.wheelyard]
image = "pytorch:2.3.1"
"""
    with guarded(tmp_path / "private", newer="9.0", filelock="99.0") as private:
        files = {"pyproject.toml": table % private}
        said = refused(index, tmp_path, files)
        assert f"inner is taken from {private} alone (tool.uv.sources)" in said
        assert "UV_INDEX_<NAME>_PASSWORD" in said
        monkeypatch.setenv("UV_INDEX_CORP_NET_USERNAME", "me")
        monkeypatch.setenv("UV_INDEX_CORP_NET_PASSWORD", PASSWORD)
        made = lock(index, tmp_path, files).lock
        assert versions(made) == {"inner": "1.0", "newer": "1.0", "filelock": "3.9"}
        text = render_lock(made)
        assert PASSWORD not in text
        assert f"{private.removesuffix('/simple/')}/files/inner-1.0-" in text
        project = write(tmp_path, files)
        settings = make_settings(tmp_path)
        added = made.added(base(index))
        inner = [item for item in added if item.wheel.name == "inner"]
        context = Context(settings, Quiet())
        found = fetch_wheels(inner, project, "3.11", context)
        lost = [replace(inner[0], url=None)]  # as if a token had been left out of the address
        assert fetch_wheels(lost, project, "3.11", context) == found
    monkeypatch.delenv("UV_INDEX_CORP_NET_PASSWORD")
    assert lock_problems(project, made, None) == []


@pytest.mark.parametrize("setting", [False, True])
def test_a_wrong_login_is_refused_without_being_shown(
    index: Index, tmp_path: Path, setting: bool
) -> None:
    with guarded(tmp_path / "private") as url:
        named = url.replace("//", "//me:wr0ng-secret@")
        project = write(tmp_path, {"r.txt": "inner\n"})
        settings = make_settings(tmp_path, named)
        if not setting:
            (project.folder / "r.txt").write_text(f"--index-url {named}\ninner\n")
            settings = make_settings(tmp_path)
        with pytest.raises((LockError, FetchError)) as caught:
            lock_project(project, base(index), None, (), settings)
    assert "wr0ng-secret" not in str(caught.value)
    assert "inner" in str(caught.value)


def test_a_token_in_an_indexs_path_is_not_in_the_lock(index: Index, tmp_path: Path) -> None:
    token = "0a1b2c3d4e5f60718293a4b5"
    for name in ("files", "simple"):
        (index.folder / token).mkdir(exist_ok=True)
        (index.folder / token / name).symlink_to(index.folder / name)
    project = write(tmp_path, {"r.txt": "newer\n"})
    with index.serve() as url:
        for page in (index.folder / "simple").rglob("index.html"):
            page.write_text(page.read_text().replace("/files/", f"/{token}/files/"))
        settings = make_settings(tmp_path, url.replace("/simple", f"/{token}/simple"))
        made = lock_project(project, base(index), None, (), settings).lock
    text = render_lock(made)
    assert token not in text
    assert "/***/files/newer-1.0-py3-none-any.whl" in text
    project.lock.write_text(text)
    assert [item.url for item in read_lock(project.lock).wheels] == [None, None]


def test_a_changed_requirement_or_base_makes_the_lock_stale(index: Index, tmp_path: Path) -> None:
    made = lock(index, tmp_path, "demo\n").lock
    project = write(tmp_path, {"r.txt": "demo\n"})
    assert lock_problems(project, made, None) == []
    assert lock_problems(project, made, base(index)) == []
    other = replace(base(index), constraints=("torch==2.3.1",))
    assert "is no longer what" in lock_problems(project, made, other)[0]
    write(tmp_path, {"r.txt": "demo\nnewer\n"})
    assert lock_problems(project, made, None) == ["the table or the requirements have changed"]


def break_lock(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[[packages]]", "[[packages", "cannot be used"),
        ("sha256 = \"", "md5 = \"", "SHA-256 or its size is missing"),
        ("newer-1.0-py3", "newer-2.0-py3", "is not consistent with package version"),
        ('inputs = "sha256:', 'inputs = "md5:', "inputs is not a SHA-256"),
        ('requires-python = "==3.11.*"', "", "must name one Python"),
        ("lock-version = \"1.0\"", "", "lock-version"),
    ],
)  # fmt: skip
def test_a_damaged_lock_is_refused(
    index: Index, tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = tmp_path / "pylock.toml"
    text = render_lock(lock(index, tmp_path, "newer\n").lock)
    path.write_text(break_lock(text, old, new))
    with pytest.raises(LockError, match=said):
        read_lock(path)
    assert previous_lock(path) is None  # it is ours, and is written again


def test_another_programs_lock_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pylock.toml"
    path.write_text('lock-version = "1.0"\ncreated-by = "uv"\npackages = []\n')
    with pytest.raises(LockError, match="move it away first"):
        previous_lock(path)


def command(
    argv: Sequence[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: object
) -> tuple[int, str]:
    monkeypatch.chdir(folder)
    code = main(["lock", *argv, "--cache-dir", str(folder.parent / "cache"), "--no-color"])
    out, err = capsys.readouterr()  # type: ignore[attr-defined]
    return code, out + err


def test_the_command_locks_the_project_that_it_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the set of this checkout, with nothing that is not in the base."""
    index = Index(tmp_path / "index")
    index.add("six", "1.17.0")
    index.add("trainer", "1.9")
    index.add("trainer", "2.0", ("torch>=2.4",))
    project = write(tmp_path, {"r.txt": "six\n"})
    monkeypatch.delenv("WHEELYARD_REGISTRY", raising=False)
    with index.serve() as url:
        code, said = command(["--index-url", url], project.folder, monkeypatch, capsys)
        assert code == 0, said
        added = "not in pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11, and added: 1 ("
        assert added in " ".join(said.split())
        assert "Next: wheelyard push --registry HOST/PREFIX" in " ".join(said.split())
        assert command(["--check"], project.folder, monkeypatch, capsys)[0] == 0
        assert "only" not in said
        (project.folder / "r.txt").write_text("six\ntrainer\n")
        said = command(["--index-url", url], project.folder, monkeypatch, capsys)[1]
        assert "warning: trainer 1.9 is locked, not 2.0: Because" in " ".join(said.split())
        argv = ["--index-url", url, "--json", "--upgrade"]
        made = command(argv, project.folder, monkeypatch, capsys)[1]
        (older,) = json.JSONDecoder().raw_decode(made[made.index("{") :])[0]["older"]
        assert (older["name"], older["newest"], older["possible"]) == ("trainer", "2.0", None)
    (project.folder / "r.txt").write_text("six\nidna\n")
    code, said = command(["--check"], project.folder, monkeypatch, capsys)
    assert code == 6
    assert "run `wheelyard lock`" in said
    project.lock.unlink()
    assert command(["--check"], project.folder, monkeypatch, capsys)[0] == 6
    assert command(["--bases-only"], project.folder, monkeypatch, capsys)[0] == 2


WITHOUT_POSIX = """\
import os, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
del os.geteuid
from wheelyard.cli import main
sys.exit(main(sys.argv[1:]))
"""


ELSEWHERE = """\
import os, ssl, subprocess, sys, sysconfig
import httpx, platformdirs, uv
sysconfig.get_config_vars(), sysconfig.get_platform(), platformdirs.user_cache_dir("x")
if sys.argv[1] == "win32":
    for name in ("fcntl", "grp", "pwd", "resource", "termios"):
        sys.modules[name] = None
    del os.geteuid, os.getuid, os.getgid
from wheelyard.cli import main
sys.platform = sys.argv[1]
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("platform", "table", "said"),
    [
        ("darwin", 'packages = ["ffmpeg"]', "on Linux only, and this is darwin: run this command"),
        (
            "win32",
            'packages = ["ffmpeg"]',
            "Debian packages are locked with apt, on Linux: use WSL",
        ),
        ("darwin", 'requirements = ["r.txt"]', "lib is not a wheel; it is built in pytorch:2.3.1-"),
        (
            "win32",
            'requirements = ["r.txt"]',
            "py3.11-devel pip wheel --no-deps --wheel-dir wheels ./",
        ),
    ],
)
def test_what_needs_linux_is_said_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, table: str, said: str
) -> None:
    monkeypatch.delenv("WHEELYARD_REGISTRY", raising=False)
    monkeypatch.setenv("WHEELYARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    folder_of(tmp_path / "app/lib", "lib")
    (tmp_path / "app/r.txt").write_text("-e ./lib\n")
    (tmp_path / "app/wheelyard.toml").write_text(f'image = "{REFERENCE}"\n{table}\n')
    argv = [sys.executable, "-c", ELSEWHERE, platform, "lock", "--project", str(ROOT)]
    done = subprocess.run(argv, cwd=tmp_path / "app", capture_output=True, text=True)
    assert done.returncode not in (0, 1), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_init_and_lock_need_nothing_that_windows_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index(tmp_path / "index")
    index.add("six", "1.17.0")
    monkeypatch.delenv("WHEELYARD_REGISTRY", raising=False)
    monkeypatch.setenv("WHEELYARD_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "requirements.txt").write_text("six\n")
    with index.serve() as url:
        monkeypatch.setenv("WHEELYARD_INDEX_URL", url)
        for words in (["init"], ["lock"], ["lock", "--check"]):
            argv = [sys.executable, "-c", WITHOUT_POSIX, *words]
            done = subprocess.run(argv, cwd=folder, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    assert versions(read_lock(folder / "pylock.toml")) == {"six": "1.17.0"}
