"""CUDA inside the image: one set, every library loads, and each says the version it should be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.image.box import Box
from wheelyard.images.inspect.inspect import PRIVATE_COPIES

# Asked directly, by a few lines that share nothing with selfcheck.
ASK = """
import ctypes, glob, json, sysconfig
site = sysconfig.get_path("purelib")
def load(name):
    return ctypes.CDLL(sorted(glob.glob(f"{site}/nvidia/*/lib/{name}.so.*"))[0])
number = ctypes.c_int()
load("libcudart").cudaRuntimeGetVersion(ctypes.byref(number)); cudart = number.value
load("libnccl").ncclGetVersion(ctypes.byref(number)); nccl = number.value
try:
    import torch  # finds cuDNN's dependencies, and says which cuDNN it uses itself
    used = torch.backends.cudnn.version()
except ModuleNotFoundError:
    import tensorflow
    used = None
cudnn = load("libcudnn").cudnnGetVersion()
print(json.dumps([cudart, cudnn, nccl, used]))
"""
# Every shared object with readelf's fields, by a parser of its own: soname is tag 14.
SONAMES = """
import json, os, struct, sysconfig
found = {}
for parent, _, names in os.walk("/"):
    if parent.startswith(("/proc", "/sys", "/dev")): continue
    for name in names:
        path = os.path.join(parent, name)
        if ".so" not in name or os.path.islink(path) or "/stubs" in path: continue
        if "triton/backends/nvidia/lib/cupti" in path: continue  # only its profiler loads it
        with open(path, "rb") as file:
            head = file.read(64)
            if head[:5] != b"\\x7fELF\\x02": continue
            (table,) = struct.unpack_from("<Q", head, 32)
            size, count = struct.unpack_from("<HH", head, 54)
            file.seek(table); raw = [file.read(size) for _ in range(count)]
            parts = [struct.unpack_from("<IIQQQQ", part) for part in raw]
            dynamic = [part for part in parts if part[0] == 2]
            if not dynamic: continue
            file.seek(dynamic[0][2]); raw = file.read(dynamic[0][5])
            tags = dict(reversed(list(struct.iter_unpack("<QQ", raw[: len(raw) // 16 * 16]))))
            if 14 not in tags: continue
            base = next(tags[5] - part[3] + part[2] for part in parts
                        if part[0] == 1 and part[3] <= tags[5] < part[3] + part[5])
            file.seek(base + tags[14])
            found.setdefault(file.read(256).split(b"\\0")[0].decode(), []).append(path)
print(json.dumps(found))
"""
CUDA = ("libcu", "libnv", "libnccl")


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def selfcheck(box: Box, *groups: str, options: str = "") -> dict[str, dict[str, Any]]:
    """The checks of `selfcheck --json` by name."""
    result = box.dev.run(f"selfcheck --json {options} {' '.join(groups)}")
    assert result.rc in (0, 1), result.stderr
    return {check["name"]: check for check in json.loads(result.stdout)["checks"]}


def not_passed(checks: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: check["reason"] for name, check in checks.items() if check["status"] != "pass"}


@pytest.mark.cuda(True)
def test_libraries_asked_directly_are_the_cells(box: Box, pins: dict[str, str]) -> None:
    cudart, cudnn, nccl, used = box.python(ASK)
    major, minor = numbers(box.image.cell["cuda"])
    assert cudart == major * 1000 + minor * 10
    major, minor, patch = numbers(pins[f"nvidia-cudnn-cu{cudart // 1000}"])[:3]
    assert cudnn == major * (10000 if major >= 9 else 1000) + minor * 100 + patch
    assert used in (None, cudnn)
    assert f"{major}.{minor}.{patch}.".startswith(f"{box.image.cell['cudnn']}.")
    major, minor, patch = numbers(pins[f"nvidia-nccl-cu{cudart // 1000}"])
    assert nccl == major * 10000 + minor * 100 + patch


@pytest.mark.cuda(True)
def test_selfcheck_passes_every_version(box: Box, pins: dict[str, str]) -> None:
    checks = selfcheck(box, "versions")
    absent = {f"versions.{name}": f"no wheel here brings lib{name}" for name in ("curand",)
              if not any(pin.startswith(f"nvidia-{name}") for pin in pins)}  # fmt: skip
    found = not_passed(checks)
    if (needs := found.pop("versions.driver", None)) is not None:  # on a machine without a GPU
        assert checks["versions.driver"]["status"] == "skip"
        assert needs.startswith(f"CUDA {box.image.cell['cuda']} needs driver ")
    assert found == absent
    assert {f"versions.{name}" for name in (
        "python", "cudart", "cudnn", "nccl", "cublas", "cufft", "curand", "cusolver", "cusparse",
        *box.image.cell["framework"].split("+"),
    )} <= set(checks)  # fmt: skip
    for name in ("cudart", "cudnn", "nccl", *box.image.cell["framework"].split("+")):
        assert checks[f"versions.{name}"]["expected"] is not None, name


@pytest.mark.cuda(False)
def test_selfcheck_finds_no_cuda(box: Box) -> None:
    checks = selfcheck(box, "versions", "libraries", "gpu")
    assert {check["status"] for check in checks.values()} <= {"pass", "skip"}
    assert checks["libraries.none"]["status"] == "pass"
    assert "CPU only" in checks["gpu.driver"]["reason"]


@pytest.mark.cuda(True)
def test_selfcheck_loads_every_library_of_the_wheels(box: Box) -> None:
    checks = selfcheck(box, "libraries")
    left = {why for why in not_passed(checks).values() if not why.startswith("a plug-in for a ")}
    assert left == set()
    listed = box.lines(
        r"find /opt/venv/lib/python*/site-packages/nvidia -type f ! -path '*/stubs/*' "
        r"-regex '.*\.so\(\.[0-9.]+\)?' -printf '%f\n'"  # and no header `*.sort_heap.h`
    )
    libraries = set(listed)
    assert len(libraries) > 15
    assert {f"libraries.load.{name}" for name in libraries} | {"libraries.unique"} == set(checks)


def test_no_soname_is_found_twice_in_the_whole_image(box: Box) -> None:
    found: dict[str, list[str]] = box.python(SONAMES, user=box.root)
    assert len(found) > 100
    assert any(name.startswith("libcudart") for name in found) is box.image.has_cuda
    shared = {
        name: [path for path in paths if not any(own in path for own in PRIVATE_COPIES)]
        for name, paths in found.items()
    }
    twice = {name: paths for name, paths in shared.items() if len(paths) > 1}
    assert {name: paths for name, paths in twice.items() if name.startswith(CUDA)} == {}


def test_no_cuda_compatibility_library_is_on_the_path(box: Box) -> None:
    """The driver's own libcuda comes from the host."""
    assert box.lines("find / -xdev -name 'libcuda.so*' ! -path '*/stubs/*'", user=box.root) == []
