"""TensorFlow under load: products compared bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ..gpu.burning import TIMES
from ..gpu.tensorflow_ops import AMPERE, precise
from ..machine import processor


def name(device: str) -> str:
    """Return the device, as its maker names it."""
    return processor() if device == "cpu" else str(_details(device).get("device_name", "GPU"))


def uuid(device: str) -> str | None:  # noqa: ARG001 - PyTorch's side does know
    """Return None: TensorFlow does not say what NVML knows a GPU by."""
    return None


def kinds(device: str) -> tuple[str, ...]:
    """Return the types to multiply in."""
    if device == "cpu":
        return ("float32", "bfloat16")
    new = tuple(_details(device).get("compute_capability", AMPERE)) >= AMPERE
    return ("float32", "float16", *(("tf32", "bfloat16") if new else ()))


def product(kind: str, device: str, size: int) -> Callable[[], int]:
    """Prepare a function that repeats the product and counts elements that differ."""
    data_type = tf.float32 if kind == "tf32" else tf.as_dtype(kind)
    with tf.device(_place(device)):
        left, right = (
            tf.cast(tf.random.stateless_uniform((size, size), (1, at), -1, 1), data_type)
            for at in range(2)
        )

    def bits() -> Any:
        """Return halves of 16 bits: whole numbers of 32 are compared on the processor."""
        return tf.bitcast(tf.matmul(left, right), tf.int16)

    with precise(allow_tf32=kind == "tf32"), tf.device(_place(device)):
        first = bits()

    def work() -> int:
        with precise(allow_tf32=kind == "tf32"), tf.device(_place(device)):
            counts = [
                tf.reduce_sum(tf.cast(tf.not_equal(bits(), first), tf.float32))
                for _ in range(TIMES)
            ]
            return int(tf.add_n(counts))

    return work


def free(device: str) -> int | None:  # noqa: ARG001 - PyTorch's side does know
    """Return None: TensorFlow reports what it uses, not what is free."""
    return None


def _place(device: str) -> str:
    kind, _, at = device.partition(":")
    return f"/{ {'cpu': 'CPU', 'cuda': 'GPU'}[kind] }:{at or 0}"


def _details(device: str) -> dict[str, Any]:
    gpus = tf.config.list_physical_devices("GPU")
    details: dict[str, Any] = tf.config.experimental.get_device_details(
        gpus[int(device.partition(":")[2])]
    )
    return details
