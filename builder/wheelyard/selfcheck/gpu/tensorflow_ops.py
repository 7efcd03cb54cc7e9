"""TensorFlow's computations, on any device and in any type."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from ..gpu.compare import MovedError

LOW = ("float16", "bfloat16")
KINDS = {
    "matmul": ("float64", "float32", "tf32", *LOW),
    "convolution": ("float64", "float32", "tf32", *LOW),
    "batchnorm": ("float32",),
    "attention": ("float32", *LOW),
    "lstm": ("float32",),
    "fft": ("float32",),
    "sparse": ("float32",),
    "solver": ("float64", "float32"),
    "svd": ("float64", "float32"),
}
AMPERE = (8, 0)


PLACES = {"cpu": "/CPU:0", "cuda": "/GPU:0"}


def kinds(what: str, device: str) -> tuple[str, ...]:
    """Return the types to try here."""
    if device == "cpu":
        return ("float32",)
    old = gpu_capability() < AMPERE
    return tuple(kind for kind in KINDS[what] if not (old and kind in ("tf32", "bfloat16")))


def gpu_capability() -> tuple[int, ...]:
    """Return the first GPU's compute capability."""
    (gpu, *_rest) = tf.config.list_physical_devices("GPU")
    return tuple(tf.config.experimental.get_device_details(gpu).get("compute_capability", AMPERE))


def difference(what: str, kind: str, device: str) -> float:
    """Compute the largest difference from the CPU's float64, as a part of the largest value."""
    data_type = tf.float32 if kind == "tf32" else tf.as_dtype(kind)
    tf.random.set_seed(1)
    with tf.device(PLACES["cpu"]):
        inputs = [tf.cast(part, data_type) for part in INPUTS[what]()]
        wanted = OPERATIONS[what](*(tf.cast(part, tf.float64) for part in inputs))
    with precise(allow_tf32=kind == "tf32"), tf.device(_place(device)):
        seen = OPERATIONS[what](*(tf.identity(part) for part in inputs))
    _must_be_on(device, seen, what, kind)
    with tf.device(PLACES["cpu"]):
        wanted = tf.cast(wanted, tf.complex128)
        distance = tf.reduce_max(tf.abs(tf.cast(seen, tf.complex128) - wanted))
        return float(distance / tf.reduce_max(tf.abs(wanted)))


def _must_be_on(device: str, seen: Any, what: str, kind: str) -> None:
    """Return singular values, the product of all, and one factor with itself: signs are free."""
    if _place(device)[1:] not in seen.device:
        raise MovedError(f"{what} in {kind} ran on {seen.device}")


def _place(device: str) -> str:
    """Return singular values, the product of all, and one factor with itself: signs are free."""
    kind, _, number = device.partition(":")
    return f"/GPU:{number}" if number else PLACES[kind]


@contextmanager
def precise(*, allow_tf32: bool) -> Iterator[None]:
    """Switch TF32 on or off."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(allow_tf32)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _noise(*shape: int) -> Any:
    return tf.random.uniform(shape, -1, 1, tf.float64)


def _convolution(images: Any, kernel: Any) -> Any:
    return tf.nn.conv2d(images, kernel, 1, "SAME")


def _batchnorm(values: Any, weight: Any) -> Any:
    if values.dtype == tf.float64:  # the fused kernel, cuDNN's on a GPU, has no float64
        mean, variance = tf.nn.moments(values, (0, 1, 2))
        return tf.nn.batch_normalization(values, mean, variance, weight, weight, 1e-3)
    return tf.compat.v1.nn.fused_batch_norm(values, weight, weight, epsilon=1e-3)[0]


def _attention(query: Any, key: Any, value: Any) -> Any:
    scores = tf.matmul(query, key, transpose_b=True)
    scale = tf.cast(1 / math.sqrt(query.shape[-1]), query.dtype)
    return tf.matmul(tf.nn.softmax(scores * scale), value)


def _lstm(rows: Any, kernel: Any, recurrent: Any) -> Any:
    # Unrolled there is no cuDNN in it: Keras 3 takes that for the CPU's part too, if a GPU is here.
    layer = tf.keras.layers.LSTM(
        64, return_sequences=True, dtype=rows.dtype.name, unroll=rows.dtype == tf.float64
    )
    layer.build(rows.shape)
    layer.set_weights([kernel.numpy(), recurrent.numpy(), layer.get_weights()[2]])
    return layer(rows)


def _sparse(values: Any, right: Any) -> Any:
    few = tf.where(tf.abs(values) > 0.9, values, tf.zeros_like(values))
    return tf.sparse.sparse_dense_matmul(tf.sparse.from_dense(few), right)


def _solver(values: Any, right: Any) -> Any:
    # Heavy on the diagonal, so that rounding is not blown up.
    return tf.linalg.solve(values + len(values) * tf.eye(len(values), dtype=values.dtype), right)


def _svd(values: Any) -> Any:
    """Return singular values, the product of all, and one factor with itself: signs are free."""
    sizes, left, right = tf.linalg.svd(values)
    again = tf.matmul(left * sizes, right, transpose_b=True)
    return tf.concat((tf.linalg.diag(sizes), again, tf.matmul(left, left, transpose_a=True)), 0)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "matmul": tf.matmul,
    "convolution": _convolution,
    "batchnorm": _batchnorm,
    "attention": _attention,
    "lstm": _lstm,
    "fft": lambda values: tf.signal.rfft2d(values),
    "sparse": _sparse,
    "solver": _solver,
    "svd": _svd,
}
INPUTS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "matmul": lambda: (_noise(512, 512), _noise(512, 512)),
    "convolution": lambda: (_noise(8, 32, 32, 16), _noise(3, 3, 16, 32)),
    "batchnorm": lambda: (_noise(16, 16, 16, 32), _noise(32)),
    "attention": lambda: tuple(_noise(2, 4, 128, 64) for _ in range(3)),
    "lstm": lambda: (_noise(8, 16, 32), _noise(32, 256) / 8, _noise(64, 256) / 8),
    "fft": lambda: (_noise(8, 128, 128),),
    "sparse": lambda: (_noise(256, 256), _noise(256, 64)),
    "solver": lambda: (_noise(128, 128), _noise(128, 16)),
    "svd": lambda: (_noise(128, 64),),
}
