"""What holds a cell together in its users' hands: real pip and uv are asked for what moves it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import planning
import pytest
from uv import find_uv_bin

from wheelyard.contract.constraints import (
    BUILD_CONSTRAINTS,
    CONSTRAINTS,
    PIP_CONFIG,
    UV_CONFIG,
    constraint_files,
)
from wheelyard.model import Cell, LockedWheel
from wheelyard.selfcheck import versions

CUDA = "py3-none-manylinux1_x86_64"
WHEELS = (
    LockedWheel("numpy", "1.26.4", "numpy-1.26.4-cp311-cp311-linux_x86_64.whl", "0" * 64, 1),
    LockedWheel("nvidia-cudnn-cu12", "8.9.2.26", f"nvidia-8.9.2.26-{CUDA}.whl", "0" * 64, 1),
    LockedWheel("nvidia-ml-py", "13.0", "nvidia_ml_py-13.0-py3-none-any.whl", "0" * 64, 1),
    LockedWheel("torch", "2.3.1", "torch-2.3.1-cp311-cp311-linux_x86_64.whl", "0" * 64, 1),
    LockedWheel("triton", "2.3.1", "triton-2.3.1-cp311-cp311-linux_x86_64.whl", "0" * 64, 1),
)


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    """PyTorch 2.3.1, whose matrix has a bound on NumPy."""
    return planning.plan(tmp_path).cells[0]


def pinned(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


class TestTheFiles:
    def test_hold_what_makes_the_cell_and_nothing_else(self, cell: Cell) -> None:
        files = constraint_files(cell, WHEELS)
        assert pinned(files[CONSTRAINTS]) == [
            "nvidia-cudnn-cu12==8.9.2.26",
            "torch==2.3.1",
            "triton==2.3.1",
            "numpy<2  # ABI",
            "nvidia-nvjitlink-cu12==12.1.*  # x",
        ]
        assert pinned(files[BUILD_CONSTRAINTS]) == ["torch==2.3.1"]
        assert "PIP_CONFIG_FILE=/dev/null" in files[CONSTRAINTS].splitlines()[1]

    def test_the_plugin_of_another_cuda_is_kept_out(self) -> None:
        """JAX's own advice is `pip install "jax[cuda13]"`: the newer of two is taken."""
        for cell in planning.committed_plan().cells:
            names = [pin.name for pin in cell.frameworks]
            files = constraint_files(cell, ())
            other = {"12": "13", "13": "12"}.get(cell.cuda.partition(".")[0])
            held = [f"jax-cuda{other}-plugin<0"] if "jax" in names else []
            for file in (CONSTRAINTS, UV_CONFIG):
                assert re.findall(r"jax-cuda\d+-plugin[^ \"]*", files[file]) == held

    def test_a_pin_of_upstreams_that_the_cell_replaces_is_left_out(self, cell: Cell) -> None:
        """torch's own metadata names another one: with both, pip could install nothing more."""
        swapped = replace(cell, overrides=("nvidia-cudnn-cu12==8.9.7.*",))
        files = constraint_files(swapped, WHEELS)
        assert not any("cudnn" in line for line in pinned(files[CONSTRAINTS]))
        assert 'override-dependencies = [\n    "nvidia-cudnn-cu12==8.9.7.*",\n]' in files[UV_CONFIG]


def put(folder: Path, name: str, version: str, *requires: str) -> None:
    """Write the smallest wheel there is."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {line}\n" for line in requires)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def environment(tmp_path: Path, cell: Cell) -> Path:
    """A virtual environment with the image's files, and an index with newer releases."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    index = tmp_path / "index"
    index.mkdir()
    for version in ("2.3.1", "2.15.0"):
        put(index, "torch", version)
    put(index, "torchvision", "0.18.1", "torch==2.3.1")
    put(index, "torchvision", "0.29.2", "torch>=2.14")
    for path, text in constraint_files(cell, WHEELS).items():
        local = path.removeprefix("opt/venv/").removeprefix("etc/")
        target = tmp_path / ("venv" if path == PIP_CONFIG else "etc") / local
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace("/etc/", f"{tmp_path}/etc/"))
    return tmp_path


BACKEND = """\
import importlib.metadata, os
from pathlib import Path

def get_requires_for_build_wheel(settings=None):
    return os.environ["BUILD_NEEDS"].split()

def prepare_metadata_for_build_wheel(folder, settings=None):
    met = [d.version for d in importlib.metadata.distributions(name="torch")]
    Path(__file__).with_name("met").write_text(" ".join(met))
    info = Path(folder, "extension-1.0.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: extension\\nVersion: 1.0\\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\\nTag: py3-none-any\\n")
    return info.name

def build_wheel(folder, settings=None, metadata=None):
    raise NotImplementedError
"""


@pytest.fixture
def extension(tmp_path: Path) -> Path:
    """A project that is compiled against torch; its file `met` says which one the build met."""
    folder = tmp_path / "extension"
    folder.mkdir()
    (folder / "backend.py").write_text(BACKEND)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    return folder


def install(root: Path, tool: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    python = str(root / "venv/bin/python")
    start = {
        "pip": [sys.executable, "-m", "pip", "--python", python, "install"],
        "uv": [find_uv_bin(), "pip", "install", "--offline", "--python", python],
    }[tool]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_"))}
    where = {"UV_CONFIG_FILE": str(root / "etc/uv/uv.toml")} if "UV_NO_CONFIG" not in env else {}
    return subprocess.run(
        [*start, "--dry-run", "--no-index", "--find-links", str(root / "index"), *words],
        env={**clean, "UV_CACHE_DIR": str(root / "cache"), **where, **env},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("tool", ["pip", "uv"])
class TestInstalling:
    def test_beside_the_framework_takes_what_fits_it(self, environment: Path, tool: str) -> None:
        done = install(environment, tool, "torchvision")
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "0.18.1" in said
        assert "2.15.0" not in said

    def test_another_one_is_refused_and_says_which(self, environment: Path, tool: str) -> None:
        done = install(environment, tool, "torch==2.15.0")
        assert done.returncode != 0
        assert "torch==2.3.1" in done.stdout + done.stderr

    def test_the_documented_words_lift_it(self, environment: Path, tool: str) -> None:
        lifted = {"PIP_CONFIG_FILE": "/dev/null", "UV_NO_CONFIG": "1"}
        done = install(environment, tool, "torchvision", **lifted)
        assert done.returncode == 0, done.stderr
        assert "2.15.0" in done.stdout + done.stderr


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_build_without_isolation_goes_on(environment: Path, extension: Path, tool: str) -> None:
    """FlashAttention, DeepSpeed, apex: their READMEs say --no-build-isolation."""
    done = install(environment, tool, "--no-build-isolation", str(extension), BUILD_NEEDS="")
    assert done.returncode == 0, done.stderr
    assert (extension / "met").read_text() == ""


def test_an_isolated_build_of_uvs_meets_the_images_framework(
    environment: Path, extension: Path
) -> None:
    done = install(environment, "uv", str(extension), BUILD_NEEDS="torch")
    assert done.returncode == 0, done.stderr
    assert (extension / "met").read_text() == "2.3.1"


def test_one_of_pips_does_where_it_is_told_to(environment: Path, extension: Path) -> None:
    told = ("--build-constraint", str(environment / BUILD_CONSTRAINTS))
    done = install(environment, "pip", *told, str(extension), BUILD_NEEDS="torch")
    assert done.returncode == 0, done.stderr
    assert (extension / "met").read_text() == "2.3.1"


class TestSelfcheck:
    def test_reads_the_file_that_images_have(self) -> None:
        assert str(versions.PINS) == f"/{CONSTRAINTS}"

    def test_names_both_versions_of_what_moved(self, tmp_path: Path, cell: Cell) -> None:
        from importlib.metadata import version

        path = tmp_path / "constraint.txt"
        path.write_text(f"# about\npytest=={version('pytest')}\nnumpy<2  # why\n")
        assert versions.check_pins(path).status == "pass"
        path.write_text(constraint_files(cell, WHEELS)[CONSTRAINTS] + "pytest==0.1\n")
        outcome = versions.check_pins(path)
        assert outcome.status == "fail"
        assert f"pytest is {version('pytest')}, the image's is 0.1" in (outcome.reason or "")
        assert "torch is gone, the image's is 2.3.1" in (outcome.reason or "")
