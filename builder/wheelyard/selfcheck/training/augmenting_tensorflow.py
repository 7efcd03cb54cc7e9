"""Augmentation by Keras's layers."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

layers = tf.keras.layers


def augmented(picture: Sequence[Sequence[int]], times: int, seed: int) -> list[list[list[int]]]:
    """Augment the picture so many times."""
    size = len(picture)
    tf.keras.utils.set_random_seed(seed)  # Keras 2 goes on counting under a layer's own seed
    parts = [
        layers.RandomFlip("horizontal", seed=seed),
        layers.ZeroPadding2D(1),
        layers.RandomCrop(size, size, seed=seed),
    ]
    with tf.device("/CPU:0"):
        values = tf.constant(picture, tf.float32)[None, :, :, None]
        pictures = []
        for _ in range(times):
            output = parts[2](parts[1](parts[0](values, training=True)), training=True)
            pictures.append(tf.cast(tf.round(output[0, :, :, 0]), tf.int32).numpy().tolist())
    return pictures
