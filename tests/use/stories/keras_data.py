"""Train on a tf.data pipeline that reads files, save the model, and load it again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf


def parse(line: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    numbers = tf.strings.to_number(tf.strings.split(line, ","))
    return numbers[:2], numbers[2:]


tf.keras.utils.set_random_seed(0)
rows = np.random.default_rng(0).normal(size=(200, 2))
lines = [f"{a:.4f},{b:.4f},{a - b:.4f}" for a, b in rows]
Path("numbers.csv").write_text("\n".join(lines) + "\n")
data = tf.data.TextLineDataset("numbers.csv").map(parse, num_parallel_calls=tf.data.AUTOTUNE)
data = data.cache("numbers.cache").shuffle(200, seed=0).batch(20).prefetch(tf.data.AUTOTUNE)

model = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Dense(1)])
model.compile(optimizer=tf.keras.optimizers.Adam(0.05), loss="mse", jit_compile=True)
losses = model.fit(data, epochs=5, verbose=0).history["loss"]
assert losses[-1] < losses[0], losses

model.save("model.keras")
loaded = tf.keras.models.load_model("model.keras")
asked = np.array([[3.0, 1.0]], dtype="float32")
np.testing.assert_allclose(loaded.predict(asked, verbose=0), model.predict(asked, verbose=0))
print("losses:", losses)
