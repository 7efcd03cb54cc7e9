"""JAX's computations, on any device and in any type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

LOW = ("float16", "bfloat16")
KINDS = {
    "matmul": ("float32", *LOW),
    "convolution": ("float32", *LOW),
    "attention": ("float32", *LOW),
    "fft": ("float32",),
    "solver": ("float32",),
}


def kinds(what: str, device: str) -> tuple[str, ...]:
    """Return the types to try here."""
    return ("float32",) if device == "cpu" else KINDS[what]


def difference(what: str, kind: str, device: str) -> float:
    """Return the largest difference from the CPU's float64, as a part of the largest value."""
    noise = np.random.default_rng(1)
    inputs = [noise.uniform(-1, 1, shape) for shape in SHAPES[what]]
    compute = jax.jit(OPERATIONS[what])
    place = device_of(device)
    low = [jnp.asarray(each, kind) for each in inputs]
    with jax.default_matmul_precision("highest"):  # XLA would take TF32 for float32
        seen = compute(*(jax.device_put(each, place) for each in low))
    seen = np.asarray(seen).astype(np.complex128)
    wanted = _in_float64(OPERATIONS[what], [np.asarray(each, np.float64) for each in low])
    return float(np.abs(seen - wanted).max() / np.abs(wanted).max())


def device_of(device: str) -> Any:
    """Return JAX's device of a name: "cpu", "cuda", "cuda:1"."""
    kind, _, number = device.partition(":")
    return jax.local_devices(backend="cpu" if kind == "cpu" else "gpu")[int(number or 0)]


def _in_float64(compute: Callable[..., Any], inputs: list[Any]) -> Any:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        processor = device_of("cpu")
        with jax.default_device(processor), jax.default_matmul_precision("highest"):
            return np.asarray(compute(*map(jnp.asarray, inputs))).astype(np.complex128)
    finally:
        jax.config.update("jax_enable_x64", before)


def _convolution(images: Any, kernel: Any) -> Any:
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME")


def _attention(query: Any, key: Any, value: Any) -> Any:
    shares = jax.nn.softmax(jnp.einsum("nhtd,nhud->nhtu", query, key) / query.shape[-1] ** 0.5)
    return jnp.einsum("nhtu,nhud->nhtd", shares, value)


def _solver(values: Any, right: Any) -> Any:
    # Heavy on the diagonal, so that rounding is not blown up.
    return jnp.linalg.solve(values + len(values) * jnp.eye(len(values), dtype=values.dtype), right)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "matmul": jnp.matmul,
    "convolution": _convolution,
    "attention": _attention,
    "fft": jnp.fft.rfft2,
    "solver": _solver,
}
SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "matmul": ((512, 512), (512, 512)),
    "convolution": ((8, 16, 32, 32), (32, 16, 3, 3)),
    "attention": ((2, 4, 128, 64),) * 3,
    "fft": ((8, 128, 128),),
    "solver": ((128, 128), (128, 16)),
}
