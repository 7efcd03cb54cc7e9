"""Which frameworks are here, and what they say about the GPU."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from types import ModuleType

from . import dlopen
from .cell import CPU_ONLY
from .result import Options

MODULES = {"pytorch": "torch", "tensorflow": "tensorflow", "jax": "jax"}


class NoGpuError(RuntimeError):
    """A GPU was asked for and the framework sees none."""


def chosen_frameworks(options: Options) -> tuple[str, ...]:
    """Return the cell's frameworks, or those installed; cut down to the one the options name."""
    names = tuple(options.cell.frameworks) if options.cell else installed_frameworks()
    wanted = options.framework
    return names if wanted is None else tuple(name for name in names if name == wanted)


def installed_frameworks() -> tuple[str, ...]:
    """Return the frameworks that are installed here."""
    return tuple(name for name, module in MODULES.items() if importlib.util.find_spec(module))


def usable_frameworks(options: Options) -> tuple[str, ...]:
    """Return the chosen ones that are installed; `versions` alone speaks of one that is not."""
    there = installed_frameworks()
    return tuple(name for name in chosen_frameworks(options) if name in there)


def missing_framework(options: Options) -> str | None:
    """Say why there is nothing to train or compute with; None where there is something."""
    if usable_frameworks(options):
        return None
    wanted = chosen_frameworks(options) or ((options.framework,) if options.framework else ())
    modules = [MODULES[name] for name in wanted or MODULES]
    if len(modules) == 1:
        return f"{modules[0]} is not installed here: pip install {modules[0]}"
    return f"neither {' nor '.join(modules)} is installed here: pip install one of them"


def import_framework(name: str) -> ModuleType:
    """Import the framework, without its notices, and with memory as it needs it."""
    if name == "tensorflow":
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    elif name == "jax":
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        # Without a driver JAX logs a traceback as an error; that no GPU is here is said elsewhere.
        alone = dlopen.attempt("libcuda.so.1") is not None
        logging.getLogger("jax").setLevel(logging.CRITICAL if alone else logging.ERROR)
    else:  # OpenMP threads that spin while they wait halve the speed of a machine that others use
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    module = importlib.import_module(MODULES[name])
    if name == "tensorflow":
        module.get_logger().setLevel("ERROR")
    return module


def gpu_count(name: str) -> int:
    """Count the GPUs that the framework can use."""
    module = import_framework(name)
    if name == "tensorflow":
        return len(module.config.list_physical_devices("GPU"))
    if name == "jax":
        return sum(device.platform == "gpu" for device in module.devices())
    return int(module.cuda.device_count()) if module.cuda.is_available() else 0


def pick_device(options: Options, name: str) -> str:
    """Choose `cpu` or `cuda`; raise NoGpuError if the options require a GPU that is missing."""
    if options.device == "cpu" and not options.require_gpu:
        return "cpu"
    if not options.cpu_only and gpu_count(name):
        return "cuda"
    if options.require_gpu or options.device == "cuda":
        if options.cpu_only:
            raise NoGpuError(f"{CPU_ONLY}; take one with CUDA")
        raise NoGpuError(f"{MODULES[name]} sees no GPU; start the container with --gpus all")
    return "cpu"
