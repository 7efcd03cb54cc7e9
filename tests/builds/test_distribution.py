"""What goes to an index: an sdist, the wheel made of it, and the wheel in an empty environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

import pytest
from planning import committed_plan

from wheelyard import __version__
from wheelyard.errors import UsageError

REPOSITORY = Path(__file__).parents[2]
NAMES = (
    "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE",
    "matrix.yaml", "builder", "templates", "images", "devcontainer",
)  # fmt: skip
MOST_BYTES = 2_100_000  # of the wheel; half of it are 120 locks, whose hashes do not compress
NOWHERE = {name: x for name, x in os.environ.items() if not name.startswith(("WHEELYARD_", "XDG"))}
NOWHERE |= {"GITHUB_SERVER_URL": "", "GITHUB_REPOSITORY": "", "PYTHONPATH": ""}


def done(*argv: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    ran = subprocess.run(
        argv, check=False, capture_output=True, text=True, env=env or NOWHERE, cwd=cwd, timeout=300
    )
    assert ran.returncode == 0, f"{argv}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def copied(folder: Path) -> Path:
    """The files of this checkout as they are now, committed."""
    leave_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    folder.mkdir()
    for name in NAMES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=leave_out)
        else:
            shutil.copy(source, folder)
    (folder / "images" / "left" / "over").mkdir(parents=True)
    (folder / "images" / "left" / "over.txt").touch()
    git = ("git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.com")
    done(*git, "init", "-q")
    done(*git, "add", "-A")
    done(*git, "commit", "-q", "-m", "x")
    return folder


def built(source: Path, target: Path, **environ: str) -> tuple[Path, Path]:
    """The sdist, and the wheel built from it, without network."""
    argv = [sys.executable, "-m", "uv", "--no-config", "--offline", "build", "--quiet", str(source)]
    argv += ["--no-build-isolation", "--python", sys.executable, "--out-dir", str(target)]
    done(*argv, env=NOWHERE | environ)
    (sdist,), (wheel,) = target.glob("*.tar.gz"), target.glob("*.whl")
    return sdist, wheel


@dataclass(frozen=True)
class Distribution:
    source: Path
    sdist: Path
    wheel: Path

    @property
    def commit(self) -> str:
        return done("git", "-C", str(self.source), "rev-parse", "HEAD").strip()


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    folder = tmp_path_factory.mktemp("distribution")
    source = copied(folder / "source")
    return Distribution(source, *built(source, folder / "out"))


def test_an_index_would_take_both(distribution: Distribution) -> None:
    files = (str(distribution.sdist), str(distribution.wheel))
    said = done(sys.executable, "-m", "twine", "--no-color", "check", "--strict", *files)
    assert said.count("PASSED") == 2


def test_the_wheel_holds_the_code_and_the_set_of_images_and_no_more(
    distribution: Distribution,
) -> None:
    with zipfile.ZipFile(distribution.wheel) as archive:
        there = {name for name in archive.namelist() if ".dist-info/" not in name}
        commit = archive.read("wheelyard/data/revision.txt").decode().strip()
    package = REPOSITORY / "builder" / "wheelyard"
    code = {
        f"wheelyard/{path.relative_to(package)}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    locks = {name for cell in committed_plan().cells for name in (cell.lock, cell.base_lock)}
    templates = {path.relative_to(REPOSITORY) for path in REPOSITORY.glob("templates/**/*.j2")}
    feature = {
        path.relative_to(REPOSITORY) for path in REPOSITORY.glob("devcontainer/features/*/*")
    }
    data = {
        Path("matrix.yaml"),
        Path("images/layers.json"),
        *map(Path, locks),
        *templates,
        *feature,
    }
    assert there == code | {f"wheelyard/project/{x}" for x in data} | {
        "wheelyard/data/revision.txt"
    }
    assert commit == distribution.commit
    assert distribution.wheel.stat().st_size < MOST_BYTES


def test_the_sdist_needs_no_git(distribution: Distribution, tmp_path: Path) -> None:
    """The wheel above was built from it; again from the unpacked one, byte for byte the same."""
    with tarfile.open(distribution.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    _sdist, wheel = built(unpacked, tmp_path / "out")
    with zipfile.ZipFile(wheel) as again, zipfile.ZipFile(distribution.wheel) as first:
        assert {x.filename: x.CRC for x in again.infolist()} == {
            x.filename: x.CRC for x in first.infolist()
        }


def test_where_github_builds_it_links_lead_to_the_repository(
    distribution: Distribution, tmp_path: Path
) -> None:
    where = {"GITHUB_SERVER_URL": "https://forge.example", "GITHUB_REPOSITORY": "team/wheelyard"}
    _sdist, wheel = built(distribution.source, tmp_path, **where, GITHUB_REF_NAME="v0.1.0")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [x for x in archive.namelist() if x.endswith(".dist-info/METADATA")]
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    assert "Source, https://forge.example/team/wheelyard" in metadata.get_all("Project-URL", [])
    text = metadata.get_payload()
    assert isinstance(text, str)
    links = re.findall(r'(?:\]\(|src(?:set)?=")([^)"\s]+)', text)
    assert len(links) > 20
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    assert "https://forge.example/team/wheelyard/blob/v0.1.0/docs/run.md" in links
    assert "https://forge.example/team/wheelyard/raw/v0.1.0/docs/pictures/vscode.png" in links
    for link in links:
        path = link.partition("/v0.1.0/")[2].partition("#")[0]
        assert not path or (REPOSITORY / path).exists(), link


@dataclass(frozen=True)
class Installed:
    """The wheel in an environment that has its requirements, used in an empty folder."""

    python: Path
    folder: Path

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, "-m", "wheelyard", *words],
            check=False, capture_output=True, text=True, cwd=self.folder, timeout=120,
            env=NOWHERE | {"HOME": str(self.folder)},
        )  # fmt: skip

    def told(self, *words: str) -> str:
        ran = self(*words)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout


@pytest.fixture(scope="module")
def installed(distribution: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    uv = (sys.executable, "-m", "uv", "--no-config", "--offline")
    done(*uv, "venv", "--quiet", "--python", sys.executable, str(folder / "venv"))
    python = folder / "venv" / "bin" / "python"
    argv = ("pip", "install", "--quiet", "--no-deps", "--python", str(python))
    done(*uv, *argv, str(distribution.wheel))
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(done(str(python), "-c", code).strip())
    # The requirements are the ones that run this test; a .pth there is not followed.
    (packages / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "empty").mkdir()
    code = "import wheelyard; print(wheelyard.__file__)"
    assert Path(done(str(python), "-c", code, cwd=folder).strip()).is_relative_to(packages)
    return Installed(python, folder / "empty")


def test_it_lists_the_same_images_as_a_checkout(installed: Installed) -> None:
    ran = installed("plan", "cuda12.1", "--json")
    assert ran.returncode == 0, ran.stderr
    ours = done(sys.executable, "-m", "wheelyard", "plan", "cuda12.1", "--json", cwd=REPOSITORY)
    assert json.loads(ran.stdout) == json.loads(ours)
    assert len(json.loads(ran.stdout)) == 8
    assert "these are the images that wheelyard was installed with" in ran.stderr


def test_everything_that_reads_works_without_a_checkout(
    installed: Installed, distribution: Distribution
) -> None:
    commit = distribution.commit[:12]
    assert installed.told("--version") == f"wheelyard {__version__} (revision {commit})\n"
    assert json.loads(installed.told("lock", "--check", "--json")) == []
    sharing = ("plan", "cuda12.1", "--sharing", "--json")
    env = NOWHERE | {"HOME": str(installed.folder)}  # the same, empty cache
    ours = done(sys.executable, "-m", "wheelyard", *sharing, cwd=REPOSITORY, env=env)
    assert installed.told(*sharing) == ours
    picked = json.loads(installed.told("pick", "--driver", "535.104", "--gpu", "sm_90", "--json"))
    assert picked["id"].startswith("pytorch-")
    installed.told("deploy", "pytorch:2.3.1", "--kind", "compose", "--output", "compose")
    assert (installed.folder / "compose" / "compose.yaml").is_file()
    installed.told("devcontainer", "init", "--output", "mine")
    installed.told("devcontainer", "feature", "--output", "mine")
    assert (installed.folder / "mine/.devcontainer/wheelyard/install.sh").is_file()


@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")
def test_it_knows_what_to_run(installed: Installed) -> None:
    line = installed.told("run", "--print", "--runtime", "podman", "pytorch-2.3", "true")
    assert line.startswith("podman run ")
    assert "pytorch:2.3.1-cuda12.1" in line


@pytest.mark.parametrize(
    "words",
    [
        ["lock"], ["render"], ["render", "--check"], ["layers", "record", "all"],
        ["upstream", "refresh"], ["build", "pytorch-2.3", "--engine", "docker"],
        ["build", "pytorch-2.3", "--engine", "bake"], ["devcontainer", "unpin"],
    ],
)  # fmt: skip
def test_what_would_change_the_set_says_that_it_cannot(
    installed: Installed, words: list[str]
) -> None:
    ran = installed(*words)
    assert ran.returncode == UsageError.exit_code
    assert "is read-only; run it in a clone of the repository" in ran.stderr
    assert "--project FOLDER" in ran.stderr


def test_a_project_s_own_set_comes_first(installed: Installed, tmp_path: Path) -> None:
    ran = installed("plan", "--project", str(tmp_path))
    assert ran.returncode == UsageError.exit_code
    assert "has no matrix.yaml" in ran.stderr
    ours = installed("plan", "cuda12.1", "--project", str(REPOSITORY))
    assert ours.returncode == 0
    assert "installed with" not in ours.stderr
