"""PyTorch's computations, on any device and in any type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

LOW = ("float16", "bfloat16")
# float16 has no sums worth trusting on a CPU; TF32 is a GPU's.
KINDS = {
    "matmul": ("float64", "float32", "tf32", *LOW),
    "convolution": ("float64", "float32", "tf32", *LOW),
    "batchnorm": ("float32", *LOW),
    "attention": ("float32", *LOW),
    "lstm": ("float32", *LOW),
    "fft": ("float32",),
    "sparse": ("float32",),
    "solver": ("float64", "float32"),
    "svd": ("float64", "float32"),
}
AMPERE = (8, 0)


def kinds(what: str, device: str) -> tuple[str, ...]:
    """Return the types to try here."""
    if device == "cpu":
        return ("float32",)
    old = torch.cuda.get_device_capability() < AMPERE
    return tuple(kind for kind in KINDS[what] if not (old and kind in ("tf32", "bfloat16")))


def difference(what: str, kind: str, device: str) -> float:
    """Compute the largest difference from the CPU's float64, as a part of the largest value."""
    data_type = torch.float32 if kind == "tf32" else getattr(torch, kind)
    compute = OPERATIONS[what]
    torch.manual_seed(1)
    inputs = [part.to(data_type) for part in INPUTS[what]()]
    with precise(allow_tf32=kind == "tf32"), torch.no_grad():
        seen = compute(*(part.to(device) for part in inputs)).cpu().to(torch.complex128)
        wanted = compute(*(part.double() for part in inputs)).to(torch.complex128)
    return float((seen - wanted).abs().max() / wanted.abs().max())


@contextmanager
def precise(*, allow_tf32: bool) -> Iterator[None]:
    """Switch TF32 on or off for matrix products and for cuDNN."""
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = allow_tf32
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def _noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64) * 2 - 1


def _batchnorm(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return functional.batch_norm(values, None, None, weight, weight, training=True)


def _lstm(rows: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(2)
    layer = nn.LSTM(32, 64, batch_first=True, dtype=torch.float64)
    return layer.to(rows.device, rows.dtype)(rows)[0]


def _sparse(values: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    few = torch.where(values.abs() > 0.9, values, torch.zeros_like(values))
    return torch.sparse.mm(few.to_sparse(), right)


def _solver(values: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    # Heavy on the diagonal, so that rounding is not blown up.
    heavy = values + len(values) * torch.eye(len(values), dtype=values.dtype, device=values.device)
    return torch.linalg.solve(heavy, right)


def _svd(values: torch.Tensor) -> torch.Tensor:
    """Return singular values, the product of all, and one factor with itself: signs are free."""
    left, sizes, right = torch.linalg.svd(values, full_matrices=False)
    return torch.cat((torch.diag(sizes), (left * sizes) @ right, left.t() @ left))


OPERATIONS: dict[str, Callable[..., torch.Tensor]] = {
    "matmul": torch.matmul,
    "convolution": lambda images, kernel: functional.conv2d(images, kernel, padding=1),
    "batchnorm": _batchnorm,
    "attention": functional.scaled_dot_product_attention,
    "lstm": _lstm,
    "fft": torch.fft.rfft2,
    "sparse": _sparse,
    "solver": _solver,
    "svd": _svd,
}
INPUTS: dict[str, Callable[[], tuple[torch.Tensor, ...]]] = {
    "matmul": lambda: (_noise(512, 512), _noise(512, 512)),
    "convolution": lambda: (_noise(8, 16, 32, 32), _noise(32, 16, 3, 3)),
    "batchnorm": lambda: (_noise(16, 32, 16, 16), _noise(32)),
    "attention": lambda: tuple(_noise(2, 4, 128, 64) for _ in range(3)),
    "lstm": lambda: (_noise(8, 16, 32),),
    "fft": lambda: (_noise(8, 128, 128),),
    "sparse": lambda: (_noise(256, 256), _noise(256, 64)),
    "solver": lambda: (_noise(128, 128), _noise(128, 16)),
    "svd": lambda: (_noise(128, 64),),
}
