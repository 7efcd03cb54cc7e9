"""A large matrix product in PyTorch, as fast as the device goes."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..gpu.torch_ops import AMPERE, precise
from ..machine import processor
from ..training.throughput import rates


def product_rates(device: str, size: int) -> tuple[str, dict[str, list[float]]]:
    """Measure TFLOP/s by type, several windows each; return the device's name, too."""
    if device == "cpu":
        return processor(), {"float32": _rates(device, size, torch.float32, _nothing)}
    kinds = ["float32", "float16"]
    if torch.cuda.get_device_capability() >= AMPERE:
        kinds += ["tf32", "bfloat16"]
    rates = {}
    for kind in kinds:
        with precise(allow_tf32=kind == "tf32"):
            data_type = torch.float32 if kind == "tf32" else getattr(torch, kind)
            rates[kind] = _rates(device, size, data_type, torch.cuda.synchronize)
    return torch.cuda.get_device_name(), rates


def _rates(device: str, size: int, data_type: torch.dtype, wait: Callable[[], None]) -> list[float]:
    left, right = torch.rand(2, size, size, device=device, dtype=data_type)
    into = torch.empty(size, size, device=device, dtype=data_type)
    return rates(lambda: torch.mm(left, right, out=into), wait, 2 * size**3)


def _nothing() -> None:
    """Do not wait: a CPU is done when a call returns."""
