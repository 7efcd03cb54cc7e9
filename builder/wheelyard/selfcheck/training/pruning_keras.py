"""Pruning in Keras, which has no function for it: a mask of the larger weights."""

from __future__ import annotations

import tensorflow as tf

from ..training.keras_learner import KerasLearner


def prune(learner: KerasLearner, share: float) -> list[tuple[list[float], list[float]]]:
    """Prune every fully connected layer; return its weights before and after."""
    parts = []
    for weight in learner.model.trainable_variables:
        if len(weight.shape) == 2:
            before = tf.reshape(tf.convert_to_tensor(weight), (-1,))
            smallest = tf.argsort(tf.abs(before))[: round(share * len(before))]
            mask = tf.tensor_scatter_nd_update(
                tf.ones_like(before), smallest[:, None], tf.zeros_like(smallest, before.dtype)
            )
            weight.assign(tf.reshape(before * mask, weight.shape))
            parts.append((before.numpy().tolist(), (before * mask).numpy().tolist()))
    return parts
