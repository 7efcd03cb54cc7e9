"""Which files of a project go into its image, and what is refused."""

from __future__ import annotations

import os
import socket
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from wheelyard.contract.paths import UID
from wheelyard.errors import ProjectError
from wheelyard.projects import files as files_module
from wheelyard.projects.code import place_of, write_code
from wheelyard.projects.files import is_matched, is_secret, project_files
from wheelyard.projects.table import Project, Table


def make(folder: Path, **table: Any) -> Project:
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text("print(1)\n")
    return Project(folder, folder / "wheelyard.toml", Table(image="pytorch", name="x", **table), {})


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def paths(project: Project) -> list[str]:
    return [one.path for one in project_files(project)]


@pytest.mark.parametrize(
    ("path", "patterns", "matched"),
    [
        ("data/a.bin", ["data"], True),
        ("data/a.bin", ["/data/"], True),
        ("my/data/a.bin", ["data"], False),
        ("my/data/a.bin", ["**/data"], True),
        ("data/a.bin", ["**/*.bin"], True),
        ("a.bin", ["**/*.bin"], True),
        ("data/a.bin", ["*.bin"], False),
        ("data/a.bin", ["data/*", "!data/a.bin"], False),
        ("data/a.bin", ["!data/a.bin", "data/*"], True),
        ("a+b.py", ["a+b.py"], True),
        ("aab.py", ["a+b.py"], False),
        ("file7", ["file[0-9]"], True),
        ("filex", ["file[^0-9]"], True),
        ("a*b", [r"a\*b"], True),
        ("axb", [r"a\*b"], False),
        ("x/ab", ["x/?b"], True),
    ],
)
def test_patterns_as_docker_reads_them(path: str, patterns: list[str], matched: bool) -> None:
    assert is_matched(path, patterns) is matched


def test_a_pattern_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="not a pattern"):
        paths(make(tmp_path, exclude=("a[z-a]",)))


def test_what_git_tracks_or_would(tmp_path: Path) -> None:
    project = make(tmp_path, exclude=("notes",), include=("weights/*.bin",))
    git(tmp_path, "init", "-q")
    for name in ("tracked.py", "deleted.py", "ignored.log", "new.py", "skip.txt", "ä.txt"):
        (tmp_path / name).write_text(name)
    for name in ("weights", "notes", "dist"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.bin").write_text("a")
    (tmp_path / "dist/oci-layout").write_text("{}")
    (tmp_path / ".gitignore").write_text("*.log\nweights\n")
    (tmp_path / ".dockerignore").write_text("# mine\nskip.txt\n.*\n\n")
    git(tmp_path, "add", "tracked.py", "deleted.py")
    (tmp_path / "deleted.py").unlink()
    assert paths(project) == ["new.py", "tracked.py", "train.py", "weights/a.bin", "ä.txt"]


def test_a_project_inside_a_repository_and_submodules(tmp_path: Path) -> None:
    library = tmp_path / "library"
    make(library)
    git(library, "init", "-q")
    git(library, "add", ".")
    git(library, "commit", "-qm", "one")
    (tmp_path / "repository").mkdir()
    git(tmp_path / "repository", "init", "-q")
    project = make(tmp_path / "repository/app")
    (tmp_path / "repository/other.py").write_text("")
    git(project.folder, "submodule", "add", "-q", str(library), "vendored")
    assert paths(project) == ["train.py", "vendored/train.py"]
    git(project.folder, "submodule", "deinit", "-f", "vendored")
    with pytest.raises(ProjectError, match="git submodule update --init"):
        paths(project)


def test_a_repository_that_git_refuses_is_not_guessed(tmp_path: Path) -> None:
    project = make(tmp_path)
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")
    (tmp_path / "secret.log").write_text("")
    with pytest.raises(ProjectError, match="git cannot list"):
        paths(project)


def test_without_git_everything_but_rubbish(tmp_path: Path) -> None:
    project = make(tmp_path)
    for name in (".venv/lib/x.py", "__pycache__/a.pyc", "pkg/a.py", "node_modules/b.js"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("")
    (tmp_path / "here").symlink_to("pkg")
    assert paths(project) == ["here", "pkg/a.py", "train.py"]


@pytest.mark.parametrize(
    "name",
    [
        ".env", "conf/.env.production", "server.pem", "tls.KEY", "id_rsa", ".netrc", "_netrc",
        "credentials", "gcp/credentials.json", "client_secret_123.json", ".docker/config.json",
        "service-account-prod.json", ".ssh/config", ".pypirc", "kubeconfig", ".git-credentials",
    ],
)  # fmt: skip
def test_secrets_are_refused_unless_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("x")
    with pytest.raises(ProjectError, match=r"looks like a secret[\s\S]*exclude") as caught:
        paths(make(tmp_path))
    assert name in str(caught.value)
    with pytest.raises(ProjectError, match="looks like a secret"):
        paths(make(tmp_path, include=("**",)))  # a pattern names nothing
    assert name in paths(make(tmp_path, include=(name,)))
    assert paths(make(tmp_path, exclude=(name,))) == ["train.py"]


@pytest.mark.parametrize("name", [".env.example", "id_rsa.pub", "environment.py", "keys.py"])
def test_what_only_resembles_one(name: str) -> None:
    assert not is_secret(name)


def test_a_private_key_under_another_name(tmp_path: Path) -> None:
    project = make(tmp_path)
    (tmp_path / "deploy.txt").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")
    with pytest.raises(ProjectError, match=r"deploy.txt holds a private key"):
        write_code(tmp_path.parent / "blob", project_files(project), "/workspace", ())
    write_code(tmp_path.parent / "blob", project_files(project), "/workspace", ("deploy.txt",))


@pytest.mark.parametrize("target", ["/etc/passwd", "../other", "a/../../other"])
def test_links_that_leave(tmp_path: Path, target: str) -> None:
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(ProjectError, match="link is a link that leaves"):
        paths(make(tmp_path))


def test_what_no_image_holds(tmp_path: Path) -> None:
    project = make(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ProjectError, match="pipe is a named pipe"):
        paths(project)
    (tmp_path / "pipe").unlink()
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(tmp_path)  # the address of a socket is short
        try:
            listening.bind("s")
        finally:
            os.chdir(here)
        with pytest.raises(ProjectError, match="s is a socket"):
            paths(project)


def test_large_files_are_named_with_their_size(tmp_path: Path) -> None:
    project = make(tmp_path)
    with (tmp_path / "weights.bin").open("wb") as stream:
        stream.truncate(120_000_000)
    with pytest.raises(ProjectError, match=r"weights.bin has 120 MB"):
        paths(project)
    assert "weights.bin" in paths(make(tmp_path, include=("weights.bin",)))


def test_names_that_only_case_tells_apart(tmp_path: Path) -> None:
    project = make(tmp_path)
    for name in ("Data/a", "data/b"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("")
    with pytest.raises(ProjectError, match="Data and data differ only in upper"):
        paths(project)


@pytest.mark.parametrize("name", ["a\nb", ".wh.x", b"\xff.py"])
def test_names_that_no_image_holds(tmp_path: Path, name: str | bytes) -> None:
    project = make(tmp_path)
    git(tmp_path, "init", "-q")
    with open(os.path.join(os.fsencode(tmp_path), os.fsencode(name)), "w"):  # noqa: PTH118, PTH123
        pass
    with pytest.raises(ProjectError, match="cannot be in an image"):
        paths(project)


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    project = make(tmp_path)
    found = project_files(project)
    (tmp_path / "train.py").write_text("print(2)\n")
    with pytest.raises(ProjectError, match=r"train.py was changed while it was read"):
        write_code(tmp_path.parent / "blob", found, "/workspace", ())
    found = project_files(project)
    (tmp_path / "train.py").unlink()
    (tmp_path / "train.py").symlink_to("/etc/passwd")
    with pytest.raises(ProjectError, match=r"train.py (cannot be read|was changed)"):
        write_code(tmp_path.parent / "blob", found, "/workspace", ())


def test_the_layer_depends_on_names_content_and_the_executable_bit(tmp_path: Path) -> None:
    project = make(tmp_path / "a")
    (project.folder / "run").symlink_to("train.py")
    first = write_code(tmp_path / "one", project_files(project), "/app/code", ())
    os.utime(project.folder / "train.py", (1, 1))
    (project.folder / "train.py").chmod(0o600)
    assert write_code(tmp_path / "two", project_files(project), "/app/code", ()) == first
    (project.folder / "train.py").chmod(0o700)
    assert write_code(tmp_path / "two", project_files(project), "/app/code", ()) != first
    with tarfile.open(tmp_path / "two") as archive:
        entries = {one.name: (one.mode, one.uid, one.gid) for one in archive}
    assert entries == {
        "app": (0o755, 0, 0),
        "app/code": (0o2775, UID, 0),
        "app/code/run": (0o777, UID, 0),
        "app/code/train.py": (0o775, UID, 0),
    }


@pytest.mark.parametrize(
    "folder", ["/", "/usr/src", "/opt/venv", "/opt/wheelyard/x", "/opt", "/a/../etc", "/tmp/x"]
)
def test_folders_of_the_image_itself(folder: str) -> None:
    with pytest.raises(ProjectError, match="belongs to the image itself"):
        place_of(folder)


def test_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "_COUNT_MAX", 0)
    with pytest.raises(ProjectError, match=r"has 1 files for the image"):
        paths(make(tmp_path))
