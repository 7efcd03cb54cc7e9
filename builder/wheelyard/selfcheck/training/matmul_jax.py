"""A large matrix product in JAX, as fast as the device goes."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from jax import numpy as jnp

from ..gpu.jax_ops import device_of
from ..machine import processor
from ..training.throughput import rates

KINDS = ("float32", "float16", "tf32", "bfloat16")


def product_rates(device: str, size: int) -> tuple[str, dict[str, list[float]]]:
    """Measure TFLOP/s by type, several windows each; return the device's name, too."""
    place = device_of(device)
    if device == "cpu":
        return processor(), {"float32": _rates(place, size, "float32")}
    return place.device_kind, {kind: _rates(place, size, kind) for kind in KINDS}


def multiplied(kind: str, left: Any, right: Any) -> Any:
    """Multiply, in TF32 only where that is asked for: XLA's default is TF32 where a GPU has it."""
    return jnp.matmul(left, right, precision="default" if kind == "tf32" else "highest")


def factors(kind: str, place: Any, size: int) -> list[Any]:
    """Make two random square matrices between -1 and 1, of a type and on a device."""
    with jax.default_device(place):
        keys = jax.random.split(jax.random.key(1))
        data_type = "float32" if kind == "tf32" else kind
        return [jax.random.uniform(k, (size, size), minval=-1).astype(data_type) for k in keys]


def _rates(place: Any, size: int, kind: str) -> list[float]:
    left, right = factors(kind, place, size)
    multiply = jax.jit(partial(multiplied, kind))
    results: list[Any] = []

    def work() -> None:
        results[:] = [multiply(left, right)]

    return rates(work, lambda: results[0].block_until_ready(), 2 * size**3)
