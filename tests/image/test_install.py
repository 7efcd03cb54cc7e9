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
