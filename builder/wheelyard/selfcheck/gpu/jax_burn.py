"""JAX under load: products compared bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from ..gpu.burning import TIMES
from ..gpu.jax_ops import device_of
from ..machine import processor
from ..training.matmul_jax import KINDS, factors, multiplied


def name(device: str) -> str:
    """Return the device, as its maker names it."""
    return processor() if device == "cpu" else str(device_of(device).device_kind)


def uuid(device: str) -> str | None:  # noqa: ARG001 - PyTorch's side does know
    """Return None: JAX does not say what NVML knows a GPU by."""
    return None


def kinds(device: str) -> tuple[str, ...]:
    """Return the types to multiply in."""
    return ("float32", "bfloat16") if device == "cpu" else KINDS


def product(kind: str, device: str, size: int) -> Callable[[], int]:
    """Prepare a function that repeats the product and counts elements that differ."""
    left, right = factors(kind, device_of(device), size)
    multiply, count = jax.jit(partial(_bits, kind)), jax.jit(_different)
    first = multiply(left, right)

    def work() -> int:
        # A call each: within one, XLA would compute equal products once.
        return int(sum(count(multiply(left, right), first) for _ in range(TIMES)))

    return work


def _bits(kind: str, left: Any, right: Any) -> Any:
    product = multiplied(kind, left, right)
    return jax.lax.bitcast_convert_type(product, f"uint{8 * product.dtype.itemsize}")


def _different(seen: Any, first: Any) -> Any:
    return (seen != first).sum()


def free(device: str) -> int | None:  # noqa: ARG001 - PyTorch's side does know
    """Return None: JAX reports what it uses of its own pool, not what is free."""
    return None
