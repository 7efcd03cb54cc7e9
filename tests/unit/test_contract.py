"""Facts kept twice on purpose: selfcheck, the templates and the feature may not import ours."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest
from facts_index import FAT_BINARY, jax_wheel

from wheelyard.contract.paths import GID, GROUP, HOME, UID, USER, VENV, WHEELYARD, WORKDIR
from wheelyard.frameworks.known import FRAMEWORKS
from wheelyard.images.assemble.final_layer import base_files
from wheelyard.images.inspect.inspect import _CUDA_LIBRARY, PRIVATE_COPIES
from wheelyard.selfcheck import cell, cudalib, libraries
from wheelyard.selfcheck.frameworks import MODULES
from wheelyard.selfcheck.gpu import judge
from wheelyard.selfcheck.gpu.fatbinary import architectures_in

ROOT = Path(__file__).parents[2]
FEATURE = ROOT / "devcontainer/features/wheelyard"
TABLE = json.loads(files("wheelyard").joinpath("data/drivers.json").read_text())


def test_selfcheck_knows_the_same_driver_floors() -> None:
    assert {major: each["driver"] for major, each in TABLE["minor_version"].items()} == judge.FLOORS


def test_selfcheck_knows_the_same_frameworks() -> None:
    """By their names: a module may be called otherwise than its distribution."""
    assert list(FRAMEWORKS) == list(MODULES)


def test_selfcheck_reads_fat_binaries_as_the_facts_are_read() -> None:
    members = {"jax_cuda12_plugin/_linalg.so": FAT_BINARY}
    with zipfile.ZipFile(io.BytesIO(jax_wheel())) as wheel:
        members |= {name: wheel.read(name) for name in wheel.namelist() if "_versions" in name}
    found = FRAMEWORKS["jax"].built(members.get).architectures
    assert list(found) == architectures_in(FAT_BINARY) == ["sm_80", "sm_120", "compute_120"]


def test_selfcheck_finds_the_cell_where_images_have_it() -> None:
    assert str(cell.CELL_FILE) == f"/{WHEELYARD}/cell.json"


def test_selfcheck_knows_the_same_private_copies() -> None:
    assert {folder.rstrip("/") for folder in PRIVATE_COPIES} == {
        folder.strip("/") for folder in libraries.PRIVATE_COPIES
    }


@pytest.mark.parametrize(
    "name",
    ["libcudart.so.12", "libcudnn.so.9", "libcublasLt.so.12", "libnccl.so.2", "libnvrtc.so.12",
     "libnvJitLink.so.12", "libcupti.so.12", "libtorch_cuda.so", "libcurl.so.4", "libc.so.6"],
)  # fmt: skip
def test_selfcheck_takes_the_same_files_for_cuda_libraries(name: str) -> None:
    ours = _CUDA_LIBRARY.fullmatch(name) is not None
    assert (cudalib.CUDA_NAME.match(cudalib.stem(name)) is not None) == ours


def test_the_templates_name_no_other_folders() -> None:
    """What a template writes by hand, it writes as the contract does."""
    known = {f"/{path}" for path in (VENV, WORKDIR, WHEELYARD, HOME)}
    for path in sorted((ROOT / "templates").rglob("*.j2")):
        found = re.findall(r"(?<![\w}])/(?:(?:opt|home)/[a-z]+|workspace\b)", path.read_text())
        assert set(found) <= known, path


def test_the_feature_makes_the_same_environment() -> None:
    described = json.loads((FEATURE / "devcontainer-feature.json").read_text())["containerEnv"]
    assert described["VIRTUAL_ENV"] == f"/{VENV}"
    script = (FEATURE / "install.sh").read_text()
    assert f"venv=/{VENV}\n" in script
    assert f"groupadd --gid {GID} " in script
    assert f"/{WHEELYARD}/selfcheck" in script


def test_accounts_are_what_the_documentation_says() -> None:
    text = (ROOT / "docs" / "run.md").read_text() + (ROOT / "ARCHITECTURE.md").read_text()
    assert f"`{USER}`" in text
    assert str(UID) in text
    assert f"`{GROUP}`" in text


def test_the_command_of_an_image_starts_with_the_files_it_brings(tmp_path: Path) -> None:
    """What an assembled image and a base by Dockerfile bring lies outside the builder's package."""
    files = base_files()
    for path, (content, _mode) in files.items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    launcher = files["usr/local/bin/selfcheck"][0].decode().splitlines()
    moved = "\n".join(launcher[1:]).replace(f'"/{WHEELYARD}"', repr(str(tmp_path / WHEELYARD)))
    done = subprocess.run(
        [sys.executable, "-I", "-c", moved, "--help"],
        check=False, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "usage: selfcheck" in done.stdout
    template = (ROOT / "templates/base.j2").read_text()
    assert all(f"'{line}'" in template for line in launcher[1:] if line)
