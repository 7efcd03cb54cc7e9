"""Which NVIDIA driver and GPUs this machine has, and which driver a CUDA version needs."""

from __future__ import annotations

import csv
import importlib.util
import shutil
import subprocess
from dataclasses import dataclass

# Minor-version compatibility, Linux x86_64: CUDA Toolkit release notes, table 2.
FLOORS = {"11": "450.80.02", "12": "525.60.13", "13": "580.65.06"}
SMI_FIELDS = "driver_version,name,memory.total,compute_cap"


class NoDriverError(Exception):
    """No NVIDIA driver answers here; the message says what was tried."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver describes it."""

    name: str
    memory: int  # MiB
    capability: str  # "9.0"


@dataclass(frozen=True, slots=True)
class Driver:
    """The host's driver and the GPUs it shows to this process."""

    version: str  # "550.54.14"
    gpus: tuple[Gpu, ...]
    source: str  # who said so: "nvml" or "nvidia-smi"


def driver_floor(cuda: str) -> str | None:
    """The least driver for a CUDA version `12.1`; None when its major version is unknown here."""
    return FLOORS.get(cuda.split(".")[0])


def is_older(version: str, floor: str) -> bool:
    """Compare driver versions number by number: 525.147.05 is newer than 525.60.13."""
    return _numbers(version) < _numbers(floor)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def read_driver() -> Driver:
    """Ask NVML, or nvidia-smi where its Python binding is not installed; raises NoDriverError."""
    if importlib.util.find_spec("pynvml"):
        return _from_nvml()
    if shutil.which("nvidia-smi"):
        return _from_smi()
    raise NoDriverError("no NVIDIA driver here: neither nvidia-ml-py nor nvidia-smi is installed")


def _from_nvml() -> Driver:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoDriverError(
            f"no NVIDIA driver answers (NVML: {error}); start the container with --gpus all"
        ) from error
    try:
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        gpus = tuple(_gpu_from_nvml(handle) for handle in handles)
        return Driver(_text(pynvml.nvmlSystemGetDriverVersion()), gpus, "nvml")
    finally:
        pynvml.nvmlShutdown()


def _gpu_from_nvml(handle: object) -> Gpu:
    import pynvml

    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    memory = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) // 2**20
    return Gpu(_text(pynvml.nvmlDeviceGetName(handle)), memory, f"{major}.{minor}")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value  # bytes before nvidia-ml-py 12


def _from_smi() -> Driver:
    command = ["nvidia-smi", f"--query-gpu={SMI_FIELDS}", "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if answer.returncode:
        message = (answer.stdout + answer.stderr).strip().splitlines() or ["no message"]
        raise NoDriverError(f"nvidia-smi failed: {message[0]}")
    return parse_smi(answer.stdout)


def parse_smi(text: str) -> Driver:
    """Read nvidia-smi's CSV lines of SMI_FIELDS; raises NoDriverError when it lists no GPU."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if row]
    if not rows:
        raise NoDriverError("nvidia-smi lists no GPU")
    gpus = tuple(Gpu(name, int(float(memory)), cap) for _version, name, memory, cap in rows)
    return Driver(rows[0][0], gpus, "nvidia-smi")
