"""Small PyTorch builds as their publisher has them: an index per CUDA, and one without."""

from __future__ import annotations

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from wheels import make_wheel

from tests.peers.project import REPOSITORY

VERSION = "2.3.1"
# Imported by selfcheck too: what it asks PyTorch for, and nothing to compute with.
PACKAGE = """\
import types
from torch import version
from torch.version import __version__
_C = types.SimpleNamespace()
cuda = types.SimpleNamespace(is_available=lambda: False, device_count=lambda: 0)
"""
FLAGS = '#define NVCC_FLAGS_EXTRA "-gencode;arch=compute_90,code=sm_90"\n'
# major of the distributions' names -> versions of runtime, cuDNN and NCCL as upstream pins them
SETS = {"11": ("11.8.89", "8.7.0.84", "2.20.5"), "12": ("12.1.105", "8.9.2.26", "2.20.5")}


def torch_build(folder: Path, local: str | None, cuda: str | None, tag: str) -> Path:
    """A PyTorch wheel for Linux; `tag` is its platform, None a build without CUDA."""
    version = VERSION if local is None else f"{VERSION}+{local}"
    info = f"torch-{version}.dist-info"
    requires = "" if cuda is None else "".join(map(_requirement, cuda_set(cuda.split(".")[0])))
    files: dict[str, bytes | str] = {
        "torch/__init__.py": PACKAGE,
        "torch/version.py": f"__version__ = '{VERSION}+{local or 'cu121'}'\ncuda = {cuda!r}\n",
        "torch/lib/libtorch_cpu.so": b"\x7fELF" + (local or "").encode() * 5000,
    }
    if cuda is not None:
        files["torch/include/ATen/cuda/CUDAConfig.h"] = FLAGS
    wheel = f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-{tag}\n"
    made = make_wheel(
        folder, "torch", version, files, metadata=f"Requires-Dist: filelock\n{requires}",
        extra={f"{info}/WHEEL": wheel},
    )  # fmt: skip
    return made.rename(folder / f"torch-{version}-cp311-cp311-{tag}.whl")


def _requirement(pin: tuple[str, str]) -> str:
    return f'Requires-Dist: {pin[0]}=={pin[1]} ; platform_system == "Linux"\n'


def cuda_set(major: str) -> tuple[tuple[str, str], ...]:
    """Name and version of NVIDIA's distributions."""
    names = (f"nvidia-{name}-cu{major}" for name in ("cuda-runtime", "cudnn", "nccl"))
    return tuple(zip(names, SETS[major], strict=True))


def cuda_wheels(folder: Path, major: str) -> list[Path]:
    """The CUDA set as wheels: the headers that state versions, and libraries that do nothing."""
    made = []
    for name, version in cuda_set(major):
        part = name.removeprefix("nvidia-").removesuffix(f"-cu{major}").replace("-", "_")
        a, b, c = version.split(".")[:3]
        header, text = {
            "cuda_runtime": ("cuda_runtime_api.h", f"#define CUDART_VERSION  {a}0{b}0\n"),
            "cudnn": ("cudnn_version.h", _defines("CUDNN", "PATCHLEVEL", a, b, c)),
            "nccl": ("nccl.h", _defines("NCCL", "PATCH", a, b, c)),
        }[part]
        files: dict[str, bytes | str] = {
            "nvidia/__init__.py": "",
            f"nvidia/{part}/__init__.py": "",
            f"nvidia/{part}/include/{header}": text,
            f"nvidia/{part}/lib/lib{part}.so.{a}": b"\x7fELF" + name.encode() * 1000,
        }
        made.append(make_wheel(folder, name.replace("-", "_"), version, files))
    return made


def _defines(library: str, patch: str, *numbers: str) -> str:
    names = ("MAJOR", "MINOR", patch)
    pairs = zip(names, numbers, strict=True)
    return "".join(f"#define {library}_{name} {number}\n" for name, number in pairs)


def pages(index: str, wheels: Iterable[Path]) -> dict[str, Path | bytes]:
    """An index below the path `index` (PEP 503): a `+` stands encoded in its links, as upstream."""
    listed: defaultdict[str, list[str]] = defaultdict(list)
    files: dict[str, Path | bytes] = {}
    for wheel in wheels:
        address = f"/files{index}{quote(wheel.name)}"
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        project = wheel.name.split("-")[0].replace("_", "-")
        listed[project].append(f'<a href="{address}#sha256={digest}">{wheel.name}</a><br/>')
        files |= {address: wheel, f"/files{index}{wheel.name}": wheel}
    for name, links in listed.items():
        body = f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>"
        files[f"{index}{name}/"] = body.encode()
    return files


def publish(folder: Path) -> dict[str, Path | bytes]:
    """What the mirror serves: the default index, one for CUDA 11.8, one for builds without CUDA."""
    folders = [folder / name for name in ("default", "cu118", "cpu")]
    for path in folders:
        path.mkdir(parents=True)
    default, cu118, cpu = folders
    public = [torch_build(default, None, "12.1", "manylinux1_x86_64")]
    public += [*cuda_wheels(default, "12"), *cuda_wheels(default, "11")]
    public += [make_wheel(default, name, version) for name, version in
               (("pip", "26.0"), ("filelock", "3.1"))]  # fmt: skip
    return {
        **pages("/simple/", public),
        **pages("/whl/cu118/", [torch_build(cu118, "cu118", "11.8", "linux_x86_64")]),
        **pages("/whl/cpu/", [torch_build(cpu, "cpu", None, "linux_x86_64")]),
    }


def write_matrix(folder: Path) -> None:
    """PyTorch 2.3.1 for CUDA 11.8, for 12.1 and without CUDA, on the repository's own base."""
    matrix: dict[str, Any] = yaml.safe_load((REPOSITORY / "matrix.yaml").read_text())
    runtime: Mapping[str, Any] = matrix["flavours"]["runtime"] | {"tools": ["pip"]}
    named = {
        "11.8": {"index": "pytorch-cu118", "local": "cu118"},
        "cpu": {"index": "pytorch-cpu", "local": "cpu"},
    }
    entry = {"title": "PyTorch", "distribution": "torch", "since": "2.3", "indexes": named}
    small = {
        "version": matrix["version"],
        "axes": {
            "cuda": ["11.8", "12.1", "cpu"],
            "cudnn": ["8.7", "8.9", "none"],
            "framework": [f"pytorch {VERSION}"],
            "python": ["3.11"],
            "base": ["bookworm"],
            "flavour": ["runtime"],
        },
        "frameworks": {"pytorch": entry},
        "bases": {"bookworm": matrix["bases"]["bookworm"]},
        "flavours": {"runtime": dict(runtime)},
    }
    folder.mkdir(parents=True)
    (folder / "matrix.yaml").write_text(yaml.safe_dump(small))
    shutil.copytree(REPOSITORY / "templates", folder / "templates")
    lock = folder / "images/bases/bookworm-runtime.lock"
    lock.parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / "images/bases" / lock.name, lock)
