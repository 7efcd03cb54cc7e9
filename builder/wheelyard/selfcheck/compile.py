"""`torch.compile` and XLA make code on this machine, and that code computes the same numbers."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .frameworks import import_framework, pick_device, usable_frameworks
from .result import Check, Options, Outcome, failed, passed, skipped

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-5  # float32, a few operations
TRITON = (7, 0)
MACHINE_CODE = (".so", ".cubin")


def checks(options: Options) -> Iterator[Check]:
    """TorchInductor and XLA, on the device the options name."""
    names = usable_frameworks(options)
    if "pytorch" in names:
        yield "compile.inductor", partial(check_inductor, options)
    if "tensorflow" in names:
        yield "compile.xla", partial(check_xla, options)


def check_xla(options: Options) -> Outcome:
    """Check that a function compiled by XLA agrees with the same function run step by step."""
    tf = import_framework("tensorflow")
    device = pick_device(options, "tensorflow")

    def mixed(values: Any) -> Any:
        scaled = tf.sin(values * 2 + 1) * tf.exp(-tf.abs(values))
        return scaled + tf.reduce_mean(scaled)

    with tf.device("/GPU:0" if device == "cuda" else "/CPU:0"):
        values = tf.linspace(-3.0, 3.0, 4096)
        function = tf.function(mixed, jit_compile=True)
        difference = float(tf.reduce_max(tf.abs(function(values) - mixed(values))))
        try:  # of a function that XLA does not compile there is none
            machine = function.experimental_get_compiler_ir(values)(stage="optimized_hlo")
        except (ValueError, AttributeError) as error:
            return failed(f"the function was not compiled by XLA: {error}")
    fused = machine.count("fusion(")
    seen = {"device": device, "largest_difference": difference, "fusions": fused}
    if not (fused and function.experimental_get_tracing_count()):
        return failed("XLA fused nothing of the function", seen)
    if not difference <= TOLERANCE:  # catches nan
        return failed("the compiled function computes something else", seen, TOLERANCE)
    return passed(seen, TOLERANCE)


def check_inductor(options: Options) -> Outcome:
    """Check that a compiled function agrees with the same function run step by step."""
    import torch

    if sys.version_info >= (3, 12) and torch.__version__ < "2.4":
        return skipped("torch.compile supports Python 3.12 from PyTorch 2.4 on")
    compiler = environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return failed("torch.compile needs a C++ compiler: install g++, or set CXX")
    device = pick_device(options, "pytorch")
    if device == "cuda" and torch.cuda.get_device_capability() < TRITON:
        return skipped("Triton, which torch.compile uses, needs compute capability 7.0")
    values = torch.linspace(-3, 3, 4096, device=device)
    with fresh_cache() as cache:
        compiled = torch.compile(mixture, backend="inductor", fullgraph=True)(values)
        made = sorted({path.suffix for path in cache.rglob("*") if path.suffix in MACHINE_CODE})
    difference = float((compiled - mixture(values)).abs().max())
    seen = {
        "device": device, "compiler": compiler, "largest_difference": difference, "made": made,
    }  # fmt: skip
    if not made:
        return failed("torch.compile made no machine code: the function ran as it was", seen)
    if not difference <= TOLERANCE:  # catches nan
        return failed("the compiled function computes something else", seen, TOLERANCE)
    return passed(seen, TOLERANCE)


def mixture(values: torch.Tensor) -> torch.Tensor:
    """Do a few pointwise operations and a reduction, enough for a fused kernel."""
    scaled = (values * 2 + 1).sin() * (-values.abs()).exp()
    return scaled + scaled.sum() / len(values)


def user_cache() -> str:
    """Where a user's own program compiles to; what fails there for want of a name fails here."""
    from torch._inductor.codecache import cache_dir

    folder: str = cache_dir()
    if forget := getattr(cache_dir, "cache_clear", None):  # up to PyTorch 2.3 it looks once
        forget()
    return folder


@contextmanager
def fresh_cache() -> Iterator[Path]:
    """Let inductor compile for real, into a folder that is gone afterwards."""
    # Triton would take its kernel from a cache of its own.
    before = {name: environ.get(name) for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")}
    with tempfile.TemporaryDirectory(prefix="selfcheck-", dir=user_cache()) as folder:
        environ.update(dict.fromkeys(before, folder))
        try:
            yield Path(folder)
        finally:
            for name, value in before.items():
                if value is None:
                    del environ[name]
                else:
                    environ[name] = value
