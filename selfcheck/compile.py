"""`torch.compile` makes code on this machine, and that code computes the same numbers."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from os import environ
from typing import TYPE_CHECKING

from selfcheck.device import pick_device
from selfcheck.result import Check, Options, Outcome, failed, passed, skipped

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-5  # float32, a few operations


def checks(options: Options) -> Iterator[Check]:
    """TorchInductor, on the device the options name."""
    yield "compile.inductor", partial(check_inductor, options)


def check_inductor(options: Options) -> Outcome:
    """A compiled function agrees with the same function run step by step."""
    import torch

    if sys.version_info >= (3, 12) and torch.__version__ < "2.4":
        return skipped("torch.compile supports Python 3.12 from PyTorch 2.4 on")
    compiler = environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return failed("torch.compile needs a C++ compiler: install g++, or set CXX")
    device = pick_device(options)
    values = torch.linspace(-3, 3, 4096, device=device)
    with fresh_cache():
        compiled = torch.compile(mixture, backend="inductor", fullgraph=True)(values)
    difference = float((compiled - mixture(values)).abs().max())
    seen = {"device": device, "compiler": compiler, "largest_difference": difference}
    if difference > TOLERANCE:
        return failed("the compiled function computes something else", seen, TOLERANCE)
    return passed(seen, TOLERANCE)


def mixture(values: torch.Tensor) -> torch.Tensor:
    """A few pointwise operations and a reduction, enough for a fused kernel."""
    scaled = (values * 2 + 1).sin() * (-values.abs()).exp()
    return scaled + scaled.sum() / len(values)


@contextmanager
def fresh_cache() -> Iterator[None]:
    """Let inductor compile for real, into a folder that is gone afterwards."""
    before = environ.get("TORCHINDUCTOR_CACHE_DIR")
    with tempfile.TemporaryDirectory(prefix="selfcheck-") as folder:
        environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del environ["TORCHINDUCTOR_CACHE_DIR"]
            else:
                environ["TORCHINDUCTOR_CACHE_DIR"] = before
