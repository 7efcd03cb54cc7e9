"""The benchmark models in plain JAX: weights in a list, channels last, logits or numbers out.

Shapes and order of the weights are those of the Keras models, and so are the numbers that they
compute with known weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax import nn
from jax import numpy as jnp

from ..models.catalogue import HEADS, INNER, LAYERS, TOKENS, VOCABULARY, WIDTH, Spec

Shape = tuple[int, ...]
Drop = Callable[[Any, float], Any]  # values and rate -> values, some of them zero


@dataclass(frozen=True, slots=True)
class Model:
    """Shapes of the weights, which of them are scales, and what is computed with them."""

    shapes: tuple[Shape, ...]
    scales: frozenset[int]
    apply: Callable[[Sequence[Any], Any, Drop], Any]

    def weights(self, key: Any) -> list[Any]:
        """Draw new weights: Glorot's uniform distribution."""
        keys = jax.random.split(key, len(self.shapes))
        return [self._weight(at, shape, keys[at]) for at, shape in enumerate(self.shapes)]

    def _weight(self, at: int, shape: Shape, key: Any) -> Any:
        if at in self.scales:
            return jnp.ones(shape)
        if len(shape) == 1 or shape == (HEADS, WIDTH // HEADS):
            return jnp.zeros(shape)
        if shape == (VOCABULARY, WIDTH):
            return jax.random.uniform(key, shape, minval=-0.05, maxval=0.05)
        fan_in, fan_out = math.prod(shape[:-1]), shape[-1] * math.prod(shape[:-2])
        if len(shape) == 3:  # attention: (WIDTH, HEADS, size) or (HEADS, size, WIDTH)
            fan_in = fan_out = WIDTH
        limit = math.sqrt(6 / (fan_in + fan_out))
        return jax.random.uniform(key, shape, minval=-limit, maxval=limit)


def make_model(spec: Spec) -> Model:
    """Return the model of a spec."""
    return BUILDERS[spec.name]()


def mlp(outputs: int = 10) -> Model:
    """Make a model of layers 784-128-outputs."""

    def apply(weights: Sequence[Any], inputs: Any, _drop: Drop) -> Any:
        first, bias, second, last = weights
        return nn.relu(inputs @ first + bias) @ second + last

    return Model(((784, 128), (128,), (128, outputs), (outputs,)), frozenset(), apply)


def cnn_9216() -> Model:
    """Make a CNN: (N, 28, 28, 1) -> (N, 10); 12 x 12 x 64 = 9216."""

    def apply(weights: Sequence[Any], inputs: Any, drop: Drop) -> Any:
        first, first_bias, second, second_bias, third, third_bias, last, last_bias = weights
        seen = nn.relu(convolution(inputs, first) + first_bias)
        seen = pooled(nn.relu(convolution(seen, second) + second_bias))
        seen = drop(seen, 0.25).reshape(len(inputs), -1)
        seen = drop(nn.relu(seen @ third + third_bias), 0.5)
        return seen @ last + last_bias

    shapes = (
        (3, 3, 1, 32), (32,), (3, 3, 32, 64), (64,), (9216, 128), (128,), (128, 10), (10,),
    )  # fmt: skip
    return Model(shapes, frozenset(), apply)


def convolution(images: Any, kernel: Any) -> Any:
    """Convolve without padding, channels last."""
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def pooled(images: Any) -> Any:
    """Take the largest of each 2 x 2 pixels."""
    count, height, width, channels = images.shape
    return images.reshape(count, height // 2, 2, width // 2, 2, channels).max((2, 4))


NORM = ((WIDTH,), (WIDTH,))  # a scale and a bias
PROJECTION = ((WIDTH, HEADS, WIDTH // HEADS), (HEADS, WIDTH // HEADS))
BLOCK = (
    *NORM, *PROJECTION * 3, (HEADS, WIDTH // HEADS, WIDTH), (WIDTH,),
    *NORM, (WIDTH, INNER), (INNER,), (INNER, WIDTH), (WIDTH,),
)  # fmt: skip


def transformer() -> Model:
    """Make a predictor of the next pixel: (N, T) pixels as words -> (N, T, VOCABULARY)."""
    shapes = ((VOCABULARY, WIDTH), *BLOCK * LAYERS, *NORM, (WIDTH, VOCABULARY), (VOCABULARY,))
    starts = [1 + len(BLOCK) * layer for layer in range(LAYERS)]
    scales = {at for start in starts for at in (start, start + len(NORM) + 8)}
    return Model(shapes, frozenset({*scales, len(shapes) - 4}), language_model)


def language_model(weights: Sequence[Any], pixels: Any, _drop: Drop) -> Any:
    """Return logits for every place."""
    rest = iter(weights)
    table = next(rest)
    words = table[pixels] * math.sqrt(WIDTH) + positional_encoding(TOKENS, WIDTH, table.dtype)
    for _ in range(LAYERS):
        words = block(words, rest)
    words = normal(words, next(rest), next(rest))
    return words @ next(rest) + next(rest)


def block(words: Any, weights: Iterator[Any]) -> Any:
    """Apply causal self-attention and a feed-forward layer, each with a residual connection."""
    before = normal(words, next(weights), next(weights))
    query, key, value = (
        jnp.einsum("ntw,whs->nths", before, next(weights)) + next(weights) for _ in range(3)
    )
    scores = jnp.einsum("nths,nuhs->nhtu", query, key) / math.sqrt(WIDTH // HEADS)
    past = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    share = nn.softmax(jnp.where(past, scores, jnp.finfo(scores.dtype).min))
    mixed = jnp.einsum("nhtu,nuhs->nths", share, value)
    words = words + jnp.einsum("nths,hsw->ntw", mixed, next(weights)) + next(weights)
    between = normal(words, next(weights), next(weights))
    inner = nn.gelu(between @ next(weights) + next(weights), approximate=False)
    return words + inner @ next(weights) + next(weights)


def normal(words: Any, scale: Any, bias: Any) -> Any:
    """Move and scale each word to mean 0 and variance 1."""
    spread = jnp.sqrt(words.var(-1, keepdims=True) + 1e-5)
    return (words - words.mean(-1, keepdims=True)) / spread * scale + bias


def positional_encoding(places: int, width: int, kind: Any) -> Any:
    """Compute sines and cosines of Vaswani et al. (2017), section 3.5: shape (places, width)."""
    place = jnp.arange(places, dtype=jnp.float32)[:, None]
    rates = jnp.exp(jnp.arange(0, width, 2) * (-math.log(10000.0) / width))
    turns = jnp.stack((jnp.sin(place * rates), jnp.cos(place * rates)), axis=2)
    return turns.reshape(places, width).astype(kind)


BUILDERS: dict[str, Callable[[], Model]] = {
    "mlp": mlp,
    "cnn-9216": cnn_9216,
    "transformer": transformer,
    "copy": transformer,
    "regression": lambda: mlp(outputs=1),
}
