"""A `pynvml` that answers from a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

FOLDER = Path(__file__).parent / "data" / "nvml"


class NVMLError(Exception):
    """As in nvidia-ml-py, where each error is a class of its own."""


def error(name: str, text: str) -> NVMLError:
    kind: type[NVMLError] = type(name, (NVMLError,), {})
    return kind(text)


def simulated(name: str, changes: Mapping[str, Any] | None = None) -> ModuleType:
    """The module, answering as the machine of `name`.json would, with changes of its first GPU.

    Of `changes`, those in OF_THE_MACHINE are the machine's; `refused`: GPUs that this process may
    not ask about.
    """
    machine = json.loads((FOLDER / f"{name}.json").read_text())
    changes = dict(changes or {})
    machine |= {key: changes.pop(key) for key in OF_THE_MACHINE if key in changes}
    if changes:
        machine["gpus"][0] |= changes
    machine["gpus"] = machine.get("gpus", []) * machine.get("times", 1)
    module: Any = ModuleType("pynvml")
    module.NVMLError = NVMLError
    module.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, module.NVML_VOLATILE_ECC = 1, 0
    module.NVML_NVLINK_MAX_LINKS = 18
    module.nvmlShutdown = lambda: None
    module.nvmlInit = lambda: _refuse_init(machine)
    module.nvmlSystemGetDriverVersion = lambda: machine["driver"]
    module.nvmlSystemGetCudaDriverVersion = lambda: machine["cuda"]
    module.nvmlDeviceGetCount = lambda: len(machine["gpus"])
    module.nvmlDeviceGetHandleByIndex = lambda at: _handle(machine, at)
    module.nvmlDeviceGetName = lambda handle: _gpu(machine, handle)["name"].encode()
    module.nvmlDeviceGetUUID = lambda handle: _gpu(machine, handle).get("uuid", f"GPU-{handle}")
    module.nvmlDeviceGetMemoryInfo = lambda handle: _memory(machine, handle)
    module.nvmlDeviceGetCudaComputeCapability = lambda handle: _gpu(machine, handle)["capability"]
    module.nvmlDeviceGetEccMode = lambda handle: _answer(machine, handle, "ecc")
    module.nvmlDeviceGetTotalEccErrors = lambda handle, _kind, _counter: _answer(
        machine, handle, "memory_errors"
    )
    module.nvmlDeviceGetMigMode = lambda handle: _answer(machine, handle, "mig")
    module.nvmlDeviceGetMaxMigDeviceCount = lambda handle: _answer(machine, handle, "mig_devices")
    module.nvmlDeviceGetMigDeviceHandleByIndex = lambda handle, at: _slice(machine, handle, at)
    module.nvmlDeviceGetPersistenceMode = lambda handle: _answer(machine, handle, "persistence")
    module.nvmlDeviceGetNvLinkState = lambda handle, link: _link(machine, handle, link)
    for question in OPTIONAL:
        setattr(module, f"nvmlDeviceGet{question}", _asking(machine, question))
    module.nvmlDeviceGetTopologyCommonAncestor = lambda left, right: _ancestor(machine, left, right)
    module.nvmlSystemGetConfComputeState = lambda: SimpleNamespace(
        ccFeature=machine.get("confidential", 0)
    )
    module.nvmlSystemGetConfComputeGpusReadyState = lambda: _ready(machine)
    module.c_nvmlGpuFabricInfo_t = SimpleNamespace
    module.nvmlDeviceGetGpuFabricInfo = lambda handle, info: _join(machine, handle, info)
    module.nvmlDeviceGetClockInfo = lambda handle, _kind: _answer(machine, handle, "clock")
    module.nvmlDeviceGetMaxClockInfo = lambda handle, _kind: _answer(machine, handle, "max_clock")
    module.nvmlDeviceGetPowerUsage = lambda handle: _answer(machine, handle, "power")
    module.nvmlDeviceGetEnforcedPowerLimit = lambda handle: _answer(machine, handle, "power_limit")
    module.nvmlDeviceGetTemperature = lambda handle, _kind: _answer(machine, handle, "temperature")
    module.nvmlDeviceGetTemperatureThreshold = lambda handle, _kind: _answer(
        machine, handle, "slowdown"
    )
    found: ModuleType = module
    return found


def _ready(machine: dict[str, Any]) -> int:
    if "ready" not in machine:
        raise error("NVMLError_NotSupported", "Not Supported")
    return int(machine["ready"])


def _join(machine: dict[str, Any], handle: int, info: SimpleNamespace) -> int:
    """Fill in the caller's structure, as nvidia-ml-py does, and say NVML_SUCCESS."""
    info.state = _answer(machine, handle, "fabric")
    return 0


OF_THE_MACHINE = ("refused", "confidential", "ready", "driver", "cuda")
# What is answered from a GPU's key of that name, and is "Not Supported" without one.
OPTIONAL = (
    "RemappedRows", "RetiredPagesPendingStatus", "ComputeMode", "CurrentClocksThrottleReasons",
    "CurrPcieLinkGeneration", "MaxPcieLinkGeneration", "CurrPcieLinkWidth", "MaxPcieLinkWidth",
)  # fmt: skip


def _asking(machine: dict[str, Any], question: str) -> Callable[[int], Any]:
    return lambda handle: _answer(machine, handle, question)


def _refuse_init(machine: dict[str, Any]) -> None:
    if "init_error" in machine:
        raise error(machine["init_error"], machine["text"])


def _handle(machine: dict[str, Any], at: int) -> int:
    if machine.get("lost"):
        raise error("NVMLError_GpuIsLost", machine["text"])
    if at in machine.get("refused", ()):
        raise error("NVMLError_NoPermission", "Insufficient Permissions")
    return at


def _gpu(machine: dict[str, Any], handle: int) -> dict[str, Any]:
    gpu: dict[str, Any] = machine["gpus"][handle]
    return gpu


def _answer(machine: dict[str, Any], handle: int, question: str) -> Any:
    gpu = _gpu(machine, handle)
    if question not in gpu:
        raise error("NVMLError_NotSupported", "Not Supported")
    return gpu[question]


def _memory(machine: dict[str, Any], handle: int | str) -> SimpleNamespace:
    """A whole GPU's, or a slice's; who was given slices only may not ask about the whole."""
    gpu = _gpu(machine, 0 if isinstance(handle, str) else handle)
    name = "slice_memory" if isinstance(handle, str) else "memory"
    if name not in gpu:
        raise error("NVMLError_NoPermission", "Insufficient Permissions")
    return SimpleNamespace(**gpu[name])


def _slice(machine: dict[str, Any], handle: int, at: int) -> str:
    if at not in _answer(machine, handle, "mig_present"):
        raise error("NVMLError_NotFound", "Not Found")
    return f"slice {at}"


def _link(machine: dict[str, Any], handle: int, link: int) -> int:
    links = _answer(machine, handle, "nvlinks")
    if link >= len(links):
        raise error("NVMLError_InvalidArgument", "Invalid Argument")
    return int(links[link])


def _ancestor(machine: dict[str, Any], left: int, right: int) -> int:
    """Two boards of four, as in a DGX."""
    levels = machine.get("ancestor", {"near": 10, "far": 10})
    return int(levels["near"] if left // 4 == right // 4 else levels["far"])
