"""tools/make-venv under other people's settings of pip and Python; nothing is fetched here."""

import hashlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from wheels import make_wheel

REPOSITORY = Path(__file__).parents[2]
PLAIN = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
ELSEWHERE = {
    "PIP_USER": "1",
    "PIP_TARGET": "/nowhere/target",
    "PIP_PREFIX": "/nowhere/prefix",
    "PIP_ROOT": "/nowhere/root",
    "PIP_NO_BINARY": ":all:",
    "PIP_DRY_RUN": "1",
    "PIP_PYTHON": "/nowhere/python",
    "PIP_REQUIRE_VIRTUALENV": "1",
    "PIP_CONSTRAINT": "/nowhere/constraints.txt",
    "PYTHONHOME": "/nowhere",
    "PYTHONPATH": "/nowhere",
    "PYTHONUSERBASE": "/nowhere",
    "PYTHONWARNINGS": "error",
    "PYTHONNOUSERSITE": "",
}
FILE = """\
[global]
user = true
index-url = http://index.example/simple
find-links =
    /wheels
    /more
[install]
target = /nowhere
no-deps = true
retries = 3
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with the tools, and requirements and a project that need one small wheel."""
    folder, wheels = tmp_path / "checkout", tmp_path / "wheels"
    for path in (folder / "tools", folder / "requirements", wheels):
        path.mkdir(parents=True)
    for name in ("make-venv", "pip_install.py"):
        shutil.copy(REPOSITORY / "tools" / name, folder / "tools" / name)
    small = make_wheel(wheels, "small", "1.0", {"small.py": "WHERE = __file__\n"})
    make_wheel(wheels, "backend", "1.0", {"backend.py": BACKEND})
    hashed = subprocess.run(
        [sys.executable, "-m", "pip", "hash", small],
        capture_output=True, text=True, check=True, env=PLAIN,
    ).stdout.split()[-1]  # fmt: skip
    (folder / "requirements/run.txt").write_text(f"small==1.0 {hashed}\n")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["backend"]\nbuild-backend = "backend"\n'
    )
    return folder


BACKEND = """\
import zipfile


def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "us-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("us.py", "")
        about = "us-1.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\\nName: us\\nVersion: 1.0\\n")
        tags = "Root-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\\n{tags}")
        wheel.writestr(f"{about}/RECORD", "")
    return name
"""


def run_make_venv(project: Path, **env: str) -> subprocess.CompletedProcess[str]:
    home = project.parent / "home"
    home.mkdir(exist_ok=True)
    mine = {
        "HOME": str(home),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(project.parent / "wheels"),
    }
    return subprocess.run(
        ["sh", "tools/make-venv", "run"],
        cwd=project, env={**PLAIN, **mine, **env}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def installed(project: Path) -> Path:
    """Where the small wheel is."""
    argv = [str(project / ".venv/bin/python"), "-I", "-c", "import small, us; print(small.WHERE)"]
    return Path(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip())


def test_settings_that_install_elsewhere_are_not_for_us(project: Path) -> None:
    made = run_make_venv(project, PYTHON=sys.executable, **ELSEWHERE)
    assert made.returncode == 0, made.stderr
    assert installed(project).is_relative_to(project / ".venv")


def test_a_pip_conf_that_installs_elsewhere_neither(project: Path) -> None:
    config = project.parent / "pip.conf"
    config.write_text("[global]\nuser = true\n[install]\ntarget = /nowhere\ndry-run = true\n")
    made = run_make_venv(project, PYTHON=sys.executable, PIP_CONFIG_FILE=str(config))
    assert made.returncode == 0, made.stderr
    assert installed(project).is_relative_to(project / ".venv")


def test_where_packages_come_from_is_still_the_user_s_to_say(tmp_path: Path) -> None:
    """As pip reads it: the environment before [install], that before [global]."""
    (tmp_path / "pip.conf").write_text(FILE)
    venv.create(tmp_path / "venv", with_pip=True)
    code = "import pip_install as p; print(sorted(p.environment(p.settings()).items()))"
    found = subprocess.run(
        [tmp_path / "venv/bin/python", "-c", code],
        env={
            **PLAIN, **ELSEWHERE, "PYTHONHOME": "", "PYTHONPATH": str(REPOSITORY / "tools"),
            "PYTHONWARNINGS": "", "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
            "PIP_CERT": "/ca.pem", "PIP_PROXY": "http://proxy:3128", "PIP_INDEX_URL": "http://mine",
        },
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    variables = dict(re.findall(r"\('(PIP_[A-Z_]+)', '([^']*)'\)", found.stdout))
    assert variables == {
        "PIP_CERT": "/ca.pem",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_FIND_LINKS": r"\n/wheels\n/more",
        "PIP_INDEX_URL": "http://mine",
        "PIP_PROXY": "http://proxy:3128",
        "PIP_RETRIES": "3",
    }


def pin_uv(project: Path, program: str) -> Path:
    """Pin a uv that notes what it is told and then runs `program`; returns where it notes it."""
    asked = project.parent / "asked"
    script = f'#!/bin/sh\nprintf "%s\\n" "$*" "$UV_FIND_LINKS" >> {asked}\n{program}\n'
    path = make_wheel(
        project.parent / "wheels", "uv", "0.1", {"uv-0.1.data/scripts/uv": script},
        executable=frozenset({"uv-0.1.data/scripts/uv"}),
    )  # fmt: skip
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    requirements = project / "requirements/run.txt"
    requirements.write_text(f"{requirements.read_text()}uv==0.1 \\\n    --hash=sha256:{digest}\n")
    return asked


def test_uv_installs_where_pip_is_told_and_from_there(project: Path) -> None:
    """pip fetches uv alone; `target` and its like are not for uv either."""
    asked = pin_uv(project, f'exec {Path(sys.executable).with_name("uv")} "$@"')
    mine = {"UV_TARGET": "/nowhere", "UV_SYSTEM_PYTHON": "1", "UV_NO_BINARY": "1"}
    made = run_make_venv(project, PYTHON=sys.executable, **ELSEWHERE, **mine)
    assert made.returncode == 0, made.stderr
    assert installed(project).is_relative_to(project / ".venv")
    words = asked.read_text().splitlines()
    assert [line.split()[-3:-1] for line in words[::2]] == [
        ["-r", "requirements/run.txt"], ["-e", "."],
    ]  # fmt: skip
    assert words[1] == str(project.parent / "wheels")
    said = [line for line in made.stderr.splitlines() if line.startswith("make-venv: ")]
    assert [line.split()[1] for line in said] == [
        "making", "fetching", "installing", "installing", ".venv",
    ]  # fmt: skip
    assert "the 2 packages of requirements/run.txt" in made.stderr


def test_where_uv_cannot_pip_does(project: Path) -> None:
    asked = pin_uv(project, "echo no route to the index >&2; exit 2")
    made = run_make_venv(project, PYTHON=sys.executable)
    assert made.returncode == 0, made.stderr
    assert installed(project).is_relative_to(project / ".venv")
    assert made.stderr.count("uv could not install (see above); trying pip") == 2
    assert asked.exists()


def test_settings_of_pip_in_uvs_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "tools")
    pip_install = importlib.import_module("pip_install")
    found = {
        "index-url": "http://mine", "extra-index-url": "http://a\nhttp://b", "retries": "3",
        "find-links": "\n/wheels\n/more", "cert": str(tmp_path), "proxy": "http://proxy:3128",
        "trusted-host": "mine a", "timeout": "7", "keyring-provider": "import",
    }  # fmt: skip
    monkeypatch.setattr(os, "environ", {"UV_TARGET": "/nowhere", "UV_CACHE_DIR": "/c", "X": "y"})
    assert pip_install.environment_of_uv(found) == {
        "UV_DEFAULT_INDEX": "http://mine", "UV_INDEX": "http://a http://b", "X": "y",
        "UV_FIND_LINKS": "/wheels,/more", "SSL_CERT_DIR": str(tmp_path), "UV_HTTP_RETRIES": "3",
        "ALL_PROXY": "http://proxy:3128", "HTTPS_PROXY": "http://proxy:3128",
        "HTTP_PROXY": "http://proxy:3128", "UV_INSECURE_HOST": "mine a", "UV_HTTP_TIMEOUT": "7",
        "UV_CACHE_DIR": "/c", "UV_SYSTEM_CERTS": "1",
    }  # fmt: skip


@pytest.fixture
def old_python(tmp_path: Path) -> Path:
    """A folder for PATH in which python3 says that it is 3.10, and little else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "sed", "env", "id", "dirname"):
        (folder / name).symlink_to(str(shutil.which(name)))
    python = folder / "python3"
    python.write_text('#!/bin/sh\ncase "$1" in --version) echo Python 3.10.12;; *) exit 1;; esac\n')
    python.chmod(0o755)
    return folder


def test_an_old_python_is_named_with_the_line_that_gets_a_newer_one(
    project: Path, old_python: Path
) -> None:
    made = run_make_venv(project, PATH=str(old_python))
    assert made.returncode == 1
    assert "Python 3.11 or newer is needed, python3 is not it (Python 3.10.12)" in made.stderr
    assert "apt-get install python3.11-venv" in made.stderr
    named = run_make_venv(project, PATH=str(old_python), PYTHON="python3.5")
    assert named.returncode == 1
    assert "python3.5 is not it" in named.stderr
    assert "uv" not in named.stderr.splitlines()[0]


def test_what_debian_leaves_out_is_named_in_one_line(project: Path, old_python: Path) -> None:
    """An ordinary user on a bare Debian stops once, not for each package that builds need."""
    python = old_python / "python3"
    python.write_text(
        '#!/bin/sh\ncase "$2" in *print*) echo python3.11-venv;; *ensurepip*) exit 1;; esac\n'
    )
    (old_python / "id").unlink()
    (old_python / "id").write_text("#!/bin/sh\necho 1000\n")
    (old_python / "id").chmod(0o755)
    made = run_make_venv(project, PATH=str(old_python))
    assert made.returncode == 1
    assert "sudo apt-get install python3.11-venv mmdebstrap uidmap\n" in made.stderr
    (old_python / "mmdebstrap").symlink_to("sh")
    made = run_make_venv(project, PATH=str(old_python))
    assert "sudo apt-get install python3.11-venv uidmap\n" in made.stderr


def test_with_an_old_python_the_one_that_uv_has_is_taken(project: Path, old_python: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    (old_python / "uv").symlink_to(uv)
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    version = ".".join(map(str, sys.version_info[:3]))
    home = project.parent / f"pythons/cpython-{version}-linux-x86_64-gnu"
    home.mkdir(parents=True)
    for name in ("bin", "lib"):
        (home / name).symlink_to(base.parents[1] / name)
    made = run_make_venv(project, PATH=str(old_python), UV_PYTHON_INSTALL_DIR=str(home.parent))
    assert made.returncode == 0, made.stderr
    assert "asking uv for one" in made.stderr
    assert installed(project).is_relative_to(project / ".venv")


def test_an_environment_whose_python_is_gone_is_made_anew(project: Path) -> None:
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".venv/bin/python").symlink_to("/nowhere/python3")
    made = run_make_venv(project, PYTHON=sys.executable)
    assert made.returncode == 0, made.stderr
    assert installed(project).is_relative_to(project / ".venv")


def test_what_cannot_be_fetched_ends_with_what_to_set(project: Path) -> None:
    environment = {**PLAIN, "PIP_NO_INDEX": "1", "HOME": str(project)}
    done = subprocess.run(
        ["tools/make-venv", "run"], cwd=project, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "PIP_CERT" in done.stderr.splitlines()[-1]
