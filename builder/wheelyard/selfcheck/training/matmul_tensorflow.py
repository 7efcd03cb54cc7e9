"""A large matrix product in TensorFlow, as fast as the device goes."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ..gpu.tensorflow_ops import AMPERE, PLACES, gpu_capability, precise
from ..machine import processor
from ..training.keras_learner import gpu_name
from ..training.throughput import rates


def product_rates(device: str, size: int) -> tuple[str, dict[str, list[float]]]:
    """Measure TFLOP/s by type, several windows each; return the device's name, too."""
    if device == "cpu":
        return processor(), {"float32": _rates(device, size, "float32")}
    new = gpu_capability() >= AMPERE
    kinds = ["float32", "float16", *(["tf32", "bfloat16"] if new else [])]
    results = {}
    for kind in kinds:
        with precise(allow_tf32=kind == "tf32"):
            results[kind] = _rates(device, size, "float32" if kind == "tf32" else kind)
    return gpu_name(), results


def _rates(device: str, size: int, kind: str) -> list[float]:
    results: list[Any] = []

    def work() -> None:
        results[:] = [tf.matmul(left, right)]

    def wait() -> None:
        results[0][:1, :1].numpy()  # TensorFlow has no other way to wait that all versions have

    with tf.device(PLACES[device]):
        left, right = (tf.cast(tf.random.uniform((size, size)), kind) for _ in range(2))
        return rates(work, wait, 2 * size**3)
