"""Train with Keras' TensorBoard callback, and look at the loss in TensorBoard."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from board import scalars

model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
model.compile(optimizer="sgd", loss="mse")
x = np.linspace(0, 1, 32, dtype="float32")[:, None]
model.fit(x, 2 * x, epochs=2, verbose=0, callbacks=[tf.keras.callbacks.TensorBoard("logs/keras")])
found = scalars("logs")
tags = [tag for run in found.values() for tag in run]
assert any("loss" in tag for tag in tags), found
print("TensorBoard shows", found)
