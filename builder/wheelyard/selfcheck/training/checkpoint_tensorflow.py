"""A state as large as a model's, written and read by TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from ..gpu.tensorflow_ops import PLACES

FILE = "state"


class State:
    """Weights of chance on a device."""

    def __init__(self, size: int, device: str) -> None:
        self.place = PLACES[device]
        self.parts = self._variables(
            [tf.random.stateless_uniform((size // 16,), (1, at)) for at in range(4)]
        )

    def _variables(self, values: list[Any]) -> list[Any]:
        with tf.device(self.place):
            return [tf.Variable(value) for value in values]

    def save(self, folder: Path) -> None:
        """Write all of it."""
        tf.train.Checkpoint(parts=self.parts).write(str(folder / FILE))

    def load(self, folder: Path) -> object:
        """Read all of it, onto the device."""
        parts = self._variables([tf.zeros_like(part) for part in self.parts])
        status = tf.train.Checkpoint(parts=parts).read(str(folder / FILE))
        status.assert_existing_objects_matched()
        return parts

    def equals(self, other: list[Any]) -> bool:
        """Compare with what was read, bit by bit."""
        pairs = zip(self.parts, other, strict=True)
        return all(bool(tf.reduce_all(tf.equal(one, two))) for one, two in pairs)
