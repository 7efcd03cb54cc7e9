"""Check that driver, GPU and framework work together."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from types import ModuleType

from ..cell import CPU_ONLY
from ..frameworks import MODULES, gpu_count, import_framework, usable_frameworks
from ..gpu.architectures import architectures, built_cuda
from ..gpu.driver import Driver, NoDriverError, free_memory, read_driver
from ..gpu.judge import judge_devices, judge_driver, judge_framework, judge_trace
from ..gpu.kernel import check_nvcc
from ..gpu.repeating import check_determinism
from ..result import Check, Options, Outcome, skipped

__all__ = ["checks", "free_memory"]

# What each framework's side has to compute, in the order it is done.
COMPUTATIONS = (
    "matmul",
    "convolution",
    "batchnorm",
    "attention",
    "lstm",
    "fft",
    "sparse",
    "solver",
    "svd",
)
OTHERS = ("memory", "allreduce", "trace")
BY_JAX = ("matmul", "convolution", "attention", "fft", "solver", "allreduce")
ALONE = {"pytorch": ("graph",)}  # what one framework has


def checks(options: Options) -> Iterator[Check]:
    """List every check of the group; in an image without CUDA each one skips with the reason."""
    for name, work in _checks(options):
        yield name, _not_here if options.cpu_only else work


def _not_here() -> Outcome:
    return skipped(CPU_ONLY, wants_gpu=True)  # whoever insists on a GPU has the wrong image


def _checks(options: Options) -> Iterator[Check]:
    """List driver and devices, then what each framework computes on the GPU."""
    yield "gpu.driver", partial(check_driver, options)
    yield "gpu.devices", lambda: judge_devices(find_driver())
    for name in usable_frameworks(options):
        yield f"gpu.framework.{name}", partial(check_framework, name)
        for what in known_to(name, COMPUTATIONS):
            yield f"gpu.{what}.{name}", partial(on_gpu, name, partial(_compute, name, what))
        yield f"gpu.each.{name}", partial(on_gpu, name, partial(_each, name))
        for what in (*known_to(name, OTHERS), *ALONE.get(name, ())):
            yield f"gpu.{what}.{name}", partial(on_gpu, name, partial(_other, name, what))
        yield f"gpu.determinism.{name}", partial(on_gpu, name, partial(check_determinism, name))
    yield "gpu.nvcc", lambda: check_nvcc(find_driver())


def known_to(framework: str, names: Sequence[str]) -> tuple[str, ...]:
    """Keep the checks that the framework has an operation of its own for."""
    return tuple(name for name in names if framework != "jax" or name in BY_JAX)


@cache
def find_driver() -> Driver | NoDriverError:
    """Ask once for the driver, or the error that says why there is none."""
    try:
        return read_driver()
    except NoDriverError as error:
        return error


def check_driver(options: Options) -> Outcome:
    """Check that the driver is new enough for the image's CUDA."""
    cuda = options.cell.cuda if options.cell else built_cuda(usable_frameworks(options))
    return judge_driver(find_driver(), cuda)


def check_framework(name: str) -> Outcome:
    """Check that the framework sees the GPUs, and its wheel has code for them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return judge_framework(
        name, find_driver(), gpu_count(name), architectures(name), visible, built_cuda((name,))
    )


def on_gpu(name: str, work: Callable[[], Outcome]) -> Outcome:
    """Run the check where the framework has a GPU; skip it elsewhere."""
    if not gpu_count(name):
        return skipped(f"{MODULES[name]} sees no GPU", wants_gpu=True)
    return work()


def _compute(name: str, what: str) -> Outcome:
    from ..gpu.compare import compare

    return compare(_side(name, "ops"), what, "cuda")


def _each(name: str) -> Outcome:
    from ..gpu.compare import each

    return each(_side(name, "ops"), gpu_count(name))


def _other(name: str, what: str) -> Outcome:
    outcome: Outcome = getattr(_side(name, "use"), what)()
    return judge_trace(outcome, find_driver()) if what == "trace" else outcome


def _side(name: str, part: str) -> ModuleType:
    """Import the framework's own module: ops (computations) or use (memory, NCCL, profiler)."""
    import_framework(name)
    return importlib.import_module(f"{__package__}.{MODULES[name]}_{part}")
