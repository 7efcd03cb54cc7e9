"""The benchmark models in Keras 2 and 3: channels last, float32 (tokens: int32) in, logits out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ..models.catalogue import (
    HEADS,
    HIDDEN,
    INNER,
    LAYERS,
    SEGMENTS,
    TOKENS,
    VOCABULARY,
    WIDTH,
    Spec,
)

keras = tf.keras
layers = keras.layers


def make_model(spec: Spec, *, dropout: bool = True) -> Any:
    """Make a model with random weights; without dropout, two processes compute the same."""
    if spec.dropout:
        return BUILDERS[spec.name](1.0 if dropout else 0.0)
    return BUILDERS[spec.name]()


def mlp(outputs: int = 10) -> Any:
    """Make a model of layers 784-128-outputs."""
    return keras.Sequential(
        [keras.Input((784,)), layers.Dense(128, activation="relu"), _last(outputs)]
    )


def cnn_9216(dropout: float = 1.0) -> Any:
    """Make a CNN: (N, 28, 28, 1) -> (N, 10); `dropout` scales both dropout rates."""
    return keras.Sequential([
        keras.Input((28, 28, 1)), layers.Conv2D(32, 3, activation="relu"),
        layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(),
        layers.Dropout(0.25 * dropout, seed=1), layers.Flatten(),
        layers.Dense(128, activation="relu"), layers.Dropout(0.5 * dropout, seed=2), _last(10),
    ])  # fmt: skip


def cnn_6272() -> Any:
    """Make a CNN: (N, 28, 28, 3) -> (N, 10)."""
    return keras.Sequential([
        keras.Input((28, 28, 3)), layers.Conv2D(64, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(), layers.Conv2D(128, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(), layers.Flatten(), layers.Dense(1000, activation="relu"), _last(10),
    ])  # fmt: skip


def cnn_2304() -> Any:
    """Make a CNN: (N, 32, 32, 3) -> (N, 10)."""
    return keras.Sequential([
        keras.Input((32, 32, 3)), layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(),
        layers.Dense(128, activation="relu"), _last(10),
    ])  # fmt: skip


def cnn_norm() -> Any:
    """Make a CNN: (N, 28, 28, 1) -> (N, 10), batch norm behind every convolution."""
    model = keras.Sequential([keras.Input((28, 28, 1))])
    for filters in (16, 32):
        model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        model.add(layers.BatchNormalization(momentum=0.9))  # after some ninety steps
        model.add(layers.ReLU())
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(_last(10))
    return model


def recurrent(kind: Any) -> Any:
    """Make a reader of a picture row by row, by a layer of this kind: (N, 28, 28) -> (N, 10)."""
    return keras.Sequential([keras.Input((28, 28)), kind(HIDDEN), _last(10)])


def lstm(segments: int = SEGMENTS) -> Any:
    """Make a reader row by row, in segments that share a state: (N, 28, 28) -> (N, 10)."""
    rows = keras.Input((28, 28))
    layer = layers.LSTM(HIDDEN, return_state=True)
    length, state = 28 // segments, None
    for start in range(0, 28, length):
        output, *state = layer(rows[:, start : start + length], initial_state=state)
    return keras.Model(rows, _last(10)(output))


def transformer() -> Any:
    """Make a predictor of the next pixel: (N, T) pixels as words -> (N, T, VOCABULARY)."""
    pixels = keras.Input((TOKENS,), dtype="int32")
    words = layers.Embedding(VOCABULARY, WIDTH)(pixels)
    words = Places()(words)
    for _ in range(LAYERS):
        normal = layers.LayerNormalization(epsilon=1e-5)(words)
        attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS)
        words = words + attention(normal, normal, use_causal_mask=True)
        normal = layers.LayerNormalization(epsilon=1e-5)(words)
        words = words + layers.Dense(WIDTH)(layers.Dense(INNER, activation="gelu")(normal))
    return keras.Model(pixels, _last(VOCABULARY)(layers.LayerNormalization(epsilon=1e-5)(words)))


class Places(layers.Layer):  # type: ignore[misc,name-defined]
    """Adds sines and cosines of the place to words (Vaswani et al. 2017, section 3.5)."""

    def call(self, words: Any) -> Any:
        """Add them: (N, T, WIDTH) -> the same."""
        table = positional_encoding(TOKENS, WIDTH)
        if hasattr(keras, "ops"):  # Keras 3, by any backend
            return words * math.sqrt(WIDTH) + keras.ops.convert_to_tensor(table, words.dtype)
        places = tf.constant(table, words.dtype)
        return words * tf.cast(math.sqrt(WIDTH), words.dtype) + places


def positional_encoding(places: int, width: int) -> list[list[float]]:
    """Compute sine and cosine in turn: shape (places, width)."""
    rates = [10000.0 ** (-step / width) for step in range(0, width, 2)]
    return [
        [turn(place * rate) for rate in rates for turn in (math.sin, math.cos)]
        for place in range(places)
    ]


def binary() -> Any:
    """Make a model of one logit: (N, 10) -> (N, 1)."""
    return keras.Sequential([keras.Input((10,)), layers.Dense(10, activation="relu"), _last(1)])


def _last(outputs: int) -> Any:
    """Make the output layer, in float32 under mixed precision too."""
    return layers.Dense(outputs, dtype="float32")


BUILDERS: dict[str, Callable[..., Any]] = {
    "mlp": mlp,
    "cnn-9216": cnn_9216,
    "cnn-6272": cnn_6272,
    "cnn-2304": cnn_2304,
    "lstm": lstm,
    "gru": lambda: recurrent(layers.GRU),
    "rnn": lambda: recurrent(layers.SimpleRNN),
    "cnn-norm": cnn_norm,
    "transformer": transformer,
    "copy": transformer,
    "binary": binary,
    "regression": lambda: mlp(outputs=1),
}
