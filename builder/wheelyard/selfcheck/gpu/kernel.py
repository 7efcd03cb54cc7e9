"""A kernel that nvcc compiles here and the driver runs: the compiler of the devel images."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ..cudalib import site_packages
from ..gpu.driver import Driver, NoDriverError
from ..result import Outcome, failed, passed, skipped

SOURCE = Path(__file__).with_name("add.cu")
COUNT, BLOCK = 4096, 256
CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR (cuda.h)


class CudaError(RuntimeError):
    """A call of the driver API failed."""


def check_nvcc(driver: Driver | NoDriverError) -> Outcome:
    """Check that the compiler works for this GPU, and that what it made computes rightly."""
    nvcc = find_nvcc()
    if nvcc is None:
        return skipped("no nvcc here: devel images have it from CUDA 13 on")
    here = isinstance(driver, Driver) and bool(driver.gpus)
    cuda = ctypes.CDLL("libcuda.so.1") if here else None
    with tempfile.TemporaryDirectory(prefix="selfcheck-") as folder:
        target = Path(folder) / "add"
        command = compile_command(nvcc, target, capability_of(cuda) if cuda else None)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            return failed(f"nvcc failed: {(done.stderr or done.stdout).strip()[-400:]}", command)
        code = target.read_bytes()
    if cuda is None:
        return skipped(f"nvcc compiled {len(code)} bytes; running them takes a GPU", wants_gpu=True)
    wrong = sum(
        not abs(seen - (2.0 * at + 1.0)) <= 1e-3 for at, seen in enumerate(run_kernel(cuda, code))
    )
    if wrong:
        return failed(f"{wrong} of {COUNT} numbers are wrong", {"nvcc": str(nvcc)})
    return passed({"nvcc": str(nvcc), "bytes": len(code)})


def find_nvcc() -> Path | None:
    """Find the compiler on the path, or the one that a wheel brought."""
    path = shutil.which("nvcc")
    if path:
        return Path(path)
    places = (path for site in site_packages() for path in site.glob("nvidia/*/bin/nvcc"))
    return next(places, None)


def compile_command(nvcc: Path, target: Path, capability: str | None) -> list[str]:
    """Return the command that makes machine code for this GPU, or PTX where there is none."""
    if capability is None:
        return [str(nvcc), "-ptx", "-o", str(target), str(SOURCE)]
    architecture = f"-arch=sm_{capability.replace('.', '')}"
    return [str(nvcc), "-cubin", architecture, "-o", str(target), str(SOURCE)]


def capability_of(cuda: ctypes.CDLL) -> str:
    """Ask for that of CUDA's GPU 0, `9.0`; NVML's may be another (CUDA_VISIBLE_DEVICES)."""
    device, number = ctypes.c_int(), ctypes.c_int()
    _call(cuda, "cuInit", 0)
    _call(cuda, "cuDeviceGet", ctypes.byref(device), 0)
    numbers = []
    for attribute in CAPABILITY:
        _call(cuda, "cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
        numbers.append(str(number.value))
    return ".".join(numbers)


def run_kernel(cuda: ctypes.CDLL, code: bytes) -> list[float]:
    """Return 2 x + 1 for x from 0 on, computed by the kernel on GPU 0 (CUDA driver API)."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    _call(cuda, "cuInit", 0)
    _call(cuda, "cuDeviceGet", ctypes.byref(device), 0)
    _call(cuda, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    try:
        _call(cuda, "cuCtxSetCurrent", context)
        _call(cuda, "cuModuleLoadData", ctypes.byref(module), code + b"\0")
        _call(cuda, "cuModuleGetFunction", ctypes.byref(function), module, b"add")
        numbers = _launch(cuda, function)
        _call(cuda, "cuModuleUnload", module)
    finally:
        _call(cuda, "cuDevicePrimaryCtxRelease_v2", device)
    return numbers


def _launch(cuda: ctypes.CDLL, function: ctypes.c_void_p) -> list[float]:
    size = ctypes.sizeof(ctypes.c_float) * COUNT
    x = (ctypes.c_float * COUNT)(*range(COUNT))
    y = (ctypes.c_float * COUNT)(*([1.0] * COUNT))
    z = (ctypes.c_float * COUNT)()
    places = [ctypes.c_uint64() for _ in range(3)]
    for place in places:
        _call(cuda, "cuMemAlloc_v2", ctypes.byref(place), ctypes.c_size_t(size))
    for place, values in zip(places, (x, y), strict=False):
        _call(cuda, "cuMemcpyHtoD_v2", place, values, ctypes.c_size_t(size))
    given: tuple[Any, ...] = (ctypes.c_float(2.0), *places, ctypes.c_int(COUNT))
    addresses = (ctypes.c_void_p * len(given))(*(ctypes.addressof(value) for value in given))
    grid, block, shared = (COUNT // BLOCK, 1, 1), (BLOCK, 1, 1), 0
    _call(cuda, "cuLaunchKernel", function, *grid, *block, shared, None, addresses, None)
    _call(cuda, "cuCtxSynchronize")
    _call(cuda, "cuMemcpyDtoH_v2", z, places[2], ctypes.c_size_t(size))
    for place in places:
        _call(cuda, "cuMemFree_v2", place)
    return list(z)


def _call(cuda: ctypes.CDLL, name: str, *arguments: object) -> None:
    status = getattr(cuda, name)(*arguments)
    if status:
        raise CudaError(f"{name} answered error {status}")
