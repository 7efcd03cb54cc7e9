"""A user of the image installs and removes packages, and afterwards it is as it was."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.box import Box

VENV = "/opt/venv"
WHEEL = "wheelyard_probe-1.0-py3-none-any.whl"


def make_wheel() -> bytes:
    """A wheel with a module and a command, made here so that nothing is fetched."""
    files = {
        "wheelyard_probe.py": b"def main():\n    print('probe answers')\n",
        "wheelyard_probe-1.0.dist-info/METADATA": (
            b"Metadata-Version: 2.1\nName: wheelyard-probe\nVersion: 1.0\n"
        ),
        "wheelyard_probe-1.0.dist-info/WHEEL": (
            b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
        "wheelyard_probe-1.0.dist-info/entry_points.txt": (
            b"[console_scripts]\nwheelyard-probe = wheelyard_probe:main\n"
        ),
    }
    record = "wheelyard_probe-1.0.dist-info/RECORD"
    lines = [f"{name},sha256={digest(data)},{len(data)}" for name, data in files.items()]
    files[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
    return packed.getvalue()


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


@pytest.fixture
def wheel(box: Box) -> Iterator[str]:
    """The path of a wheel in the image; what is in the environment must not change in the end."""
    path, before = f"/tmp/{WHEEL}", listing(box)
    box.put(path, make_wheel())
    yield path
    box.root.run(f"rm -f {path}")
    assert listing(box) == before


def listing(box: Box) -> list[str]:
    """Every file of the environment with owner, mode and size."""
    return sorted(
        box.lines(f"find {VENV} -type d -printf '%p %u %g %m\\n' -o -printf '%p %u %g %m %s\\n'")
    )


def test_pip_installs_and_removes_a_wheel_as_dev(box: Box, wheel: str) -> None:
    box.lines(f"pip install --no-index --disable-pip-version-check {wheel}")
    assert box.lines("wheelyard-probe") == ["probe answers"]
    box.lines("pip uninstall --yes wheelyard-probe")


def test_someone_with_another_id_but_the_venvs_group_installs_too(box: Box, wheel: str) -> None:
    """What a devcontainer does when it gives `dev` the id of the user outside."""
    other = "setpriv --reuid 4242 --regid 4242 --groups 900 env HOME=/tmp/other"
    pip = f"{other} {VENV}/bin/pip --disable-pip-version-check"
    box.lines(f"{pip} install --no-index --no-cache-dir {wheel}", user=box.root)
    assert box.lines(f"{other} {VENV}/bin/wheelyard-probe", user=box.root) == ["probe answers"]
    box.lines(f"{pip} uninstall --yes wheelyard-probe", user=box.root)
    box.root.run("rm -rf /tmp/other")


# uid and gid: of one's own outside, and OpenShift's.
STRANGERS = {"own": (12345, 12345), "openshift": (1000670000, 0)}


@pytest.fixture(params=STRANGERS)
def stranger(request: pytest.FixtureRequest, box: Box) -> Iterator[str]:
    """The beginning of a command: as a user whom the image does not know, by its entry point."""
    uid, gid = STRANGERS[request.param]
    variables = " ".join(f"{name}='{value}'" for name, value in box.image.environment.items())
    yield (
        f"setpriv --reuid {uid} --regid {gid} --clear-groups env -i HOME=/ {variables} "
        "/opt/wheelyard/entrypoint"
    )
    box.root.run(f"rm -rf /tmp/home-{uid} /home/dev/.wheelyard")


def test_a_stranger_has_a_name_and_a_home(box: Box, stranger: str) -> None:
    script = (
        "import getpass, pathlib; print(getpass.getuser()); "
        "path = pathlib.Path('~/.cache/x').expanduser(); "
        "path.parent.mkdir(parents=True, exist_ok=True); path.touch(); path.unlink()"
    )
    (name,) = box.lines(f'{stranger} python -c "{script}"', user=box.root)
    assert name.startswith("uid")
    (python,) = box.lines(f"{stranger} sh -c 'command -v python'", user=box.root)
    assert "/.wheelyard/" in python


def test_a_stranger_installs_beside_what_the_image_has(
    box: Box, stranger: str, wheel: str, pins: dict[str, str]
) -> None:
    quiet = "--no-index --disable-pip-version-check --no-cache-dir"
    box.lines(f"{stranger} pip install {quiet} {wheel}", user=box.root)
    assert box.lines(f"{stranger} wheelyard-probe", user=box.root) == ["probe answers"]
    name = next(name for name in ("torch", "tensorflow") if name in pins)
    script = f"import {name}, wheelyard_probe; print({name}.__file__, wheelyard_probe.__file__)"
    framework, probe = box.lines(f"{stranger} python -c '{script}'", user=box.root)[0].split()
    assert framework.startswith(f"{VENV}/")
    assert "/.wheelyard/" in probe
    satisfied = box.lines(f"{stranger} pip install {quiet} --dry-run {name}", user=box.root)
    assert all("already satisfied" in line for line in satisfied)
    refused = box.root.run(f"{stranger} pip install {quiet} --dry-run {name}==0.1 2>&1")
    assert f"(constraint) {name}=={pins[name]}" in refused.stdout
    box.lines(f"{stranger} pip uninstall --yes wheelyard-probe", user=box.root)
    if "uv" in pins:
        box.lines(
            f"{stranger} uv pip install --no-cache --no-index --offline {wheel}", user=box.root
        )
        assert box.lines(f"{stranger} wheelyard-probe", user=box.root) == ["probe answers"]
        seen = box.root.run(
            f"{stranger} uv pip install --no-cache --no-index --offline --dry-run {name} 2>&1"
        )
        assert "Would make no changes" in seen.stdout, seen.stdout


def test_what_root_installs_dev_removes_without_a_trace(box: Box, wheel: str) -> None:
    """As a Dockerfile's `USER root` and `RUN pip install` do, with umask 022."""
    for pip in (f"{VENV}/bin/pip", f"{VENV}/bin/python -m pip"):
        box.lines(
            f"sh -c 'umask 022; {pip} install --no-index --no-cache-dir "
            f"--disable-pip-version-check --root-user-action ignore {wheel}'",
            user=box.root,
        )
        found = box.lines(f"find {VENV} -name 'wheelyard_probe*' ! -perm -g=w")
        assert found == []
        box.lines("pip uninstall --yes wheelyard-probe")
        assert box.lines(f"find {VENV} -name '~*'") == []


@pytest.mark.parametrize("options", ["", "--system-site-packages"])
def test_an_environment_of_ones_own(
    box: Box, wheel: str, options: str, pins: dict[str, str]
) -> None:
    own = "/tmp/own"
    try:
        box.lines(f"python -m venv {options} {own}")
        box.lines(f"{own}/bin/pip install --no-index --disable-pip-version-check {wheel}")
        assert box.lines(f"{own}/bin/wheelyard-probe") == ["probe answers"]
        name = next(name for name in ("torch", "tensorflow") if name in pins)
        seen = box.dev.run(f"{own}/bin/python -c 'import {name}'")
        assert seen.succeeded is bool(options), seen.stderr
    finally:
        box.root.run(f"rm -rf {own}")


def test_pip_and_uv_keep_what_makes_the_image(box: Box, pins: dict[str, str]) -> None:
    """Whoever installs: another framework is refused, by both versions, until that is lifted."""
    name = next(name for name in ("torch", "tensorflow") if name in pins)
    other = f"install --no-index --dry-run --disable-pip-version-check {name}==0.1"
    kept = f"{name}=={pins[name]}"
    for user in (box.dev, box.root):
        refused = user.run(f"{VENV}/bin/pip {other} 2>&1")
        assert refused.rc != 0
        assert f"(constraint) {kept}" in refused.stdout
    lifted = box.dev.run(f"PIP_CONFIG_FILE=/dev/null pip {other} 2>&1")
    assert "(constraint)" not in lifted.stdout
    text = box.lines("cat /etc/uv/uv.toml")
    assert f'    "{kept}",' in text
    assert "PIP_CONFIG_FILE=/dev/null" in text[1]


def test_pip_removes_every_file_of_an_assembled_package(box: Box, pins: dict[str, str]) -> None:
    """The RECORD that the build wrote is complete, bytecode included."""
    package = next(name for name in ("filelock", "certifi") if name in pins)  # PyTorch, TensorFlow
    before = listing(box)
    site = box.python("import json, sysconfig; print(json.dumps(sysconfig.get_path('purelib')))")
    folders = f"{site}/{package} {site}/{package}-{pins[package]}.dist-info"
    assert box.lines(f"ls -d {folders}") == folders.split()
    kept = f"/tmp/{package}.tar"
    box.lines(f"tar -cf {kept} {folders}", user=box.root)
    try:
        box.lines(f"pip uninstall --yes {package}")
        assert box.lines(f"find {VENV} -path '{site}/{package}*'") == []
    finally:
        box.lines(f"tar -xpf {kept} -C / && rm {kept}", user=box.root)
    assert listing(box) == before


def test_uv_installs_and_removes_too(box: Box, wheel: str) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed beside the tests")
    box.put("/tmp/uv", Path(uv).read_bytes())
    options = f"--python {VENV}/bin/python --no-cache --no-config --offline"
    try:
        box.lines("chmod 755 /tmp/uv")
        box.lines(f"/tmp/uv pip install {options} --no-index {wheel}")
        # uv's RECORD does not list bytecode, so none may come up that it would leave behind.
        assert box.lines("PYTHONDONTWRITEBYTECODE=1 wheelyard-probe") == ["probe answers"]
        box.lines(f"/tmp/uv pip uninstall {options} wheelyard-probe")
        checked = box.dev.run(f"/tmp/uv pip check {options}")
        found = [line for line in checked.stderr.splitlines() if line.startswith("The package")]
        names = box.image.overridden
        assert checked.succeeded is not bool(names), checked.stderr
        assert len(found) == len(names)
        assert all(any(f"`{name}==" in line for name in names) for line in found)
    finally:
        # uv keeps its lock file in the environment it changes.
        box.root.run(f"rm -f /tmp/uv {VENV}/.lock")
