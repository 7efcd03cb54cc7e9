"""Which NVIDIA driver and GPUs this machine has, as NVML or nvidia-smi tells it. Judges nothing."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

START = "start the container with --gpus all"


class NoDriverError(Exception):
    """No NVIDIA driver answers here; the message says what was tried."""


class BrokenDriverError(NoDriverError):
    """There is a driver and it does not work; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver describes it; None: it does not say."""

    name: str
    memory: int | None  # MiB
    capability: str  # "9.0"; "" where the driver is too old to say
    free: int | None = None  # MiB
    ecc: bool | None = None
    memory_errors: int | None = None  # uncorrected ones since the driver was loaded
    mig: bool | None = None
    mig_devices: int | None = None
    persistence: bool | None = None
    nvlinks: int | None = None  # active ones
    uuid: str | None = None  # "GPU-..."; the same wherever it is plugged in
    nvlinks_down: int | None = None  # of those it has
    pcie: str | None = None  # "4 of 4, x8 of x16": generation and width, against the most there is
    unmapped: bool | None = None  # a row of memory could not be replaced by a spare one
    pending: bool | None = None  # rows or pages are replaced with the next reset
    exclusive: bool | None = None  # one process at a time
    slowed: tuple[str, ...] = ()  # why its clocks are held down, apart from being idle
    fabric: str | None = (
        None  # of GPUs behind NVSwitches: "not started", "in progress", "completed"
    )


@dataclass(frozen=True, slots=True)
class Driver:
    """The host's driver and the GPUs it shows to this process."""

    version: str  # "550.54.14"; "" where it does not say
    gpus: tuple[Gpu, ...]
    source: str  # who said so: "nvml" or "nvidia-smi"
    cuda: str | None = None  # "12.4", the newest that the driver supports
    links: tuple[str, ...] = ()  # how two GPUs are joined: "0-1 same board"
    remarks: tuple[str, ...] = ()  # what nvidia-smi printed besides, such as a warning
    withheld: int = 0  # GPUs of this machine that this process may not ask about
    confidential: bool = False  # confidential computing is on
    accepting: bool | None = None  # then: whether the GPUs may be given work already


def read_driver() -> Driver:
    """Ask NVML, or nvidia-smi where its Python binding is not installed; raises NoDriverError."""
    if importlib.util.find_spec("pynvml"):
        return _from_nvml()
    if shutil.which("nvidia-smi"):
        from ..gpu.smi import ask_smi

        return ask_smi()
    raise NoDriverError(
        f"no NVIDIA driver here: neither nvidia-ml-py nor nvidia-smi is installed; {START}"
    )


def free_memory() -> str | None:
    """Say how much memory is free on each GPU, for a message; None when nothing can tell."""
    try:
        gpus = read_driver().gpus
    except (NoDriverError, OSError, subprocess.SubprocessError):
        return None
    said = (
        f"GPU {at}: {gpu.free} of {gpu.memory} MiB free"
        for at, gpu in enumerate(gpus)
        if gpu.free is not None
    )
    return ", ".join(said) or None


def _from_nvml() -> Driver:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise not_answering(type(error).__name__, str(error)) from error
    try:
        return _describe(pynvml)
    except pynvml.NVMLError as error:
        raise not_answering(type(error).__name__, str(error)) from error
    finally:
        pynvml.nvmlShutdown()


def not_answering(kind: str, text: str, source: str = "NVML") -> NoDriverError:
    """Say what an error of NVML means: no driver in this container, or one that is broken."""
    if kind == "NVMLError_LibraryNotFound":
        return NoDriverError(f"no NVIDIA driver answers ({source}: {text}); {START}")
    advice = {
        "NVMLError_DriverNotLoaded": "load the kernel module on the host (modprobe nvidia)",
        "NVMLError_LibRmVersionMismatch": "the driver was updated under its kernel module: "
        "restart the host, or unload and load the module",
        "NVMLError_GpuIsLost": "a GPU fell off the bus: look for Xid lines in dmesg, restart "
        "the host",
        "NVMLError_NoPermission": "this user may not use /dev/nvidia*: see the devices' rights",
    }.get(kind, "run nvidia-smi on the host and see what it says")
    return BrokenDriverError(f"the NVIDIA driver does not work ({source}: {text}): {advice}")


def _describe(nvml: Any) -> Driver:
    handles, withheld = _handles(nvml)
    number = _asked(nvml, nvml.nvmlSystemGetCudaDriverVersion)
    return Driver(
        _text(nvml.nvmlSystemGetDriverVersion()),
        tuple(_gpu(nvml, handle) for handle in handles),
        "nvml",
        None if number is None else f"{number // 1000}.{number % 1000 // 10}",
        tuple(_links(nvml, handles)),
        withheld=withheld,
        confidential=_confidential(nvml),
        accepting=_accepting(nvml),
    )


def _confidential(nvml: Any) -> bool:
    state = optional(nvml, "nvmlSystemGetConfComputeState")
    return state is not None and state.ccFeature == 1  # NVML_CC_SYSTEM_FEATURE_ENABLED


def _accepting(nvml: Any) -> bool | None:
    ready = optional(nvml, "nvmlSystemGetConfComputeGpusReadyState")
    return None if ready is None else bool(ready)


# nvmlGpuFabricState_t, nvml.h; 0 is a GPU that no NVSwitch is behind.
FABRIC = {1: "not started", 2: "in progress", 3: "completed"}


def _fabric(nvml: Any, handle: Any) -> str | None:
    """Return the state of the fabric manager for this GPU; None where NVML has none."""
    made = getattr(nvml, "c_nvmlGpuFabricInfo_t", None)
    if made is None:
        return None
    info = made()
    if optional(nvml, "nvmlDeviceGetGpuFabricInfo", handle, info) is None:
        return None
    return FABRIC.get(info.state)


def _handles(nvml: Any) -> tuple[list[Any], int]:
    """List the GPUs that this process may ask about, and count the others.

    A batch job's control group leaves it some GPUs of a node: NVML counts all of them, and gives no
    permission for the others. Raises NVMLError where there is none left.
    """
    handles, refused = [], []
    for at in range(nvml.nvmlDeviceGetCount()):
        try:
            handles.append(nvml.nvmlDeviceGetHandleByIndex(at))
        except nvml.NVMLError as error:
            if type(error).__name__ != "NVMLError_NoPermission":
                raise
            refused.append(error)
    if refused and not handles:
        raise refused[0]
    return handles, len(refused)


def _gpu(nvml: Any, handle: Any) -> Gpu:
    capability = _asked(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle)
    memory = _memory(nvml, handle)
    ecc = _asked(nvml, nvml.nvmlDeviceGetEccMode, handle)
    errors = (nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC)
    mig = _asked(nvml, nvml.nvmlDeviceGetMigMode, handle)
    persistence = _asked(nvml, nvml.nvmlDeviceGetPersistenceMode, handle)
    rows = optional(nvml, "nvmlDeviceGetRemappedRows", handle)  # corrected, not, pending, failed
    pages = optional(nvml, "nvmlDeviceGetRetiredPagesPendingStatus", handle)
    mode = optional(nvml, "nvmlDeviceGetComputeMode", handle)
    links = _nvlinks(nvml, handle)
    return Gpu(
        name=_text(nvml.nvmlDeviceGetName(handle)),
        memory=_mebibytes(memory, "total"),
        capability="" if capability is None else f"{capability[0]}.{capability[1]}",
        free=_mebibytes(memory, "free"),
        ecc=None if ecc is None else bool(ecc[0]),
        memory_errors=_asked(nvml, nvml.nvmlDeviceGetTotalEccErrors, handle, *errors),
        mig=None if mig is None else bool(mig[0]),
        mig_devices=len(_slices(nvml, handle)) if mig and mig[0] else None,
        persistence=None if persistence is None else bool(persistence),
        nvlinks=sum(links),
        nvlinks_down=len(links) - sum(links),
        pcie=_pcie(nvml, handle),
        unmapped=None if rows is None else bool(rows[3]),
        pending=None if rows is None and pages is None else bool(pages or (rows and rows[2])),
        exclusive=None if mode is None else mode in EXCLUSIVE,
        slowed=_slowed(nvml, handle),
        fabric=_fabric(nvml, handle),
        uuid=_named(_asked(nvml, nvml.nvmlDeviceGetUUID, handle)),
    )


def _memory(nvml: Any, handle: Any) -> list[Any]:
    """Ask NVML about a GPU's memory; in a container with slices of it, about each slice.

    The whole GPU may not be asked there (nvidia-container-toolkit#842).
    """
    whole = _asked(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    if whole is not None:
        return [whole]
    parts = (_asked(nvml, nvml.nvmlDeviceGetMemoryInfo, part) for part in _slices(nvml, handle))
    return [part for part in parts if part is not None]


def _mebibytes(memory: Sequence[Any], name: str) -> int | None:
    return sum(int(getattr(part, name)) for part in memory) // 2**20 if memory else None


def _slices(nvml: Any, handle: Any) -> list[Any]:
    """Return the MIG devices of a GPU that are shown to this process."""
    count = _asked(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0
    devices = (
        _asked(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, at) for at in range(count)
    )
    return [device for device in devices if device is not None]


def _nvlinks(nvml: Any, handle: Any) -> list[bool]:
    """Return the state of every link that the GPU has: True for one that is up."""
    states = (
        _asked(nvml, nvml.nvmlDeviceGetNvLinkState, handle, at)
        for at in range(nvml.NVML_NVLINK_MAX_LINKS)
    )
    return [state == 1 for state in states if state is not None]


EXCLUSIVE = (1, 3)  # NVML_COMPUTEMODE_EXCLUSIVE_THREAD, _PROCESS
# nvmlClocksThrottleReasons, nvml.h.
SLOWED = {
    0x08: "hardware slowdown", 0x20: "too hot (software)", 0x40: "too hot (hardware)",
    0x80: "power brake: look at its power cable and supply",
}  # fmt: skip


def _slowed(nvml: Any, handle: Any) -> tuple[str, ...]:
    bits = optional(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", handle) or 0
    return tuple(text for bit, text in SLOWED.items() if bits & bit)


def _pcie(nvml: Any, handle: Any) -> str | None:
    asked = ("CurrPcieLinkGeneration", "MaxPcieLinkGeneration",
             "CurrPcieLinkWidth", "MaxPcieLinkWidth")  # fmt: skip
    values = [optional(nvml, f"nvmlDeviceGet{name}", handle) for name in asked]
    if None in values:
        return None
    return "{} of {}, x{} of x{}".format(*values)


def optional(nvml: Any, name: str, *arguments: Any) -> Any:
    """Ask as `_asked` does; None also where this nvidia-ml-py does not have the function."""
    function = getattr(nvml, name, None)
    return None if function is None else _asked(nvml, function, *arguments)


# nvmlGpuTopologyLevel_t, nvml.h.
LEVELS = {
    0: "same board", 10: "one PCIe switch", 20: "several PCIe switches",
    30: "one PCIe host bridge", 40: "one NUMA node", 50: "across NUMA nodes",
}  # fmt: skip


def _links(nvml: Any, handles: Sequence[Any]) -> list[str]:
    links = []
    for left, first in enumerate(handles):
        for right in range(left + 1, len(handles)):
            level = _asked(nvml, nvml.nvmlDeviceGetTopologyCommonAncestor, first, handles[right])
            if level is not None:
                links.append(f"{left}-{right} {LEVELS.get(level, f'level {level}')}")
    return links


def _asked(nvml: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the answer; None where GPU or driver do not know the question. A lost GPU raises."""
    try:
        return function(*arguments)
    except nvml.NVMLError as error:
        if type(error).__name__ == "NVMLError_GpuIsLost":
            raise
        return None


def _named(value: str | bytes | None) -> str | None:
    return None if value is None else _text(value)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value  # bytes before nvidia-ml-py 12
