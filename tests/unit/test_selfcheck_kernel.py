"""The way from nvcc to the driver API, with a driver that computes on the processor.

What a real driver does with a real kernel takes a GPU: here only our own calls are held to cuda.h.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from wheelyard.selfcheck.gpu import kernel
from wheelyard.selfcheck.gpu.driver import Driver, Gpu
from wheelyard.selfcheck.gpu.kernel import CudaError, capability_of, check_nvcc, run_kernel

HERE = Path(__file__).parent
TURING = Driver("580.65.06", (Gpu("Tesla T4", 15360, "7.5"),), "nvml")
NVCC = """#!/bin/sh
for word; do case $word in -arch=*) arch=${word#-arch=};; esac; done
while [ "$1" != -o ]; do shift; done
printf "cubin for $arch" > "$2"
"""


@pytest.fixture
def cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    """The stand-in as `libcuda.so.1`, and an nvcc that writes down what it was asked for."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to make the stand-in with")
    library = tmp_path / "libcuda.so.1"
    source = HERE / "data" / "driver.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(NVCC)
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    loaded = ctypes.CDLL(str(library))
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: loaded)
    return loaded


def test_the_kernel_is_made_for_cudas_first_gpu_and_its_numbers_are_checked(
    cuda: ctypes.CDLL,
) -> None:
    """NVML's first is a T4 here, CUDA's an 8.6: code for the T4 would not load (error 209)."""
    assert capability_of(cuda) == "8.6"
    outcome = check_nvcc(TURING)
    assert (outcome.status, outcome.reason) == ("pass", None)
    assert outcome.seen["bytes"] == len("cubin for sm_86")


def test_a_kernel_that_does_not_load_names_the_call(cuda: ctypes.CDLL) -> None:
    with pytest.raises(CudaError, match="cuModuleLoadData answered error 209"):
        run_kernel(cuda, b"cubin for sm_75")


def test_every_number_is_computed(cuda: ctypes.CDLL) -> None:
    assert run_kernel(cuda, b"cubin for sm_86") == [2.0 * at + 1 for at in range(kernel.COUNT)]
