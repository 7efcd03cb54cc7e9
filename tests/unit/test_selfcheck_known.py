"""The Transformer's recorded numbers, computed once more in NumPy from the definitions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from wheelyard.selfcheck.data import digits
from wheelyard.selfcheck.models.catalogue import HEADS, INNER, LAYERS, TOKENS, VOCABULARY, WIDTH
from wheelyard.selfcheck.training.known import NUMBERS, close, formula, known_numbers


def weights() -> Iterator[Any]:
    """In the order of PyTorch's parameters: outputs x inputs, scales near one."""
    norm = [(WIDTH,), (WIDTH,)]
    block = [
        *norm, *norm, (3 * WIDTH, WIDTH), (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,),
        (INNER, WIDTH), (INNER,), (WIDTH, INNER), (WIDTH,),
    ]  # fmt: skip
    shapes = [(VOCABULARY, WIDTH), *block * LAYERS, *norm, (VOCABULARY, WIDTH), (VOCABULARY,)]
    # Of norms, every first one of two is a scale; others of one dimension are biases.
    scales = {1 + len(block) * layer + at for layer in range(LAYERS) for at in (0, 2)}
    scales.add(1 + len(block) * LAYERS)
    for at, shape in enumerate(shapes):
        places = np.arange(math.prod(shape), dtype=np.int64)
        values = formula(places, at, shape[1] if len(shape) > 1 else None)
        yield values.reshape(shape) + (1.0 if at in scales else 0.0)


def normal(x: Any, scale: Any, bias: Any) -> Any:
    spread = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return (x - x.mean(-1, keepdims=True)) / spread * scale + bias


def softmax(x: Any) -> Any:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def transformer(words: Any) -> Any:
    """(N, T) -> probabilities of (N, T, VOCABULARY), as Vaswani et al. and GPT-2 have it."""
    rest = weights()
    place, rate = np.arange(TOKENS)[:, None], np.exp(np.arange(0, WIDTH, 2) / -WIDTH * np.log(1e4))
    sines = np.stack((np.sin(place * rate), np.cos(place * rate)), 2).reshape(TOKENS, WIDTH)
    x = next(rest)[words] * math.sqrt(WIDTH) + sines
    future = np.triu(np.full((TOKENS, TOKENS), -np.inf), 1)
    gelu = np.vectorize(lambda value: value * 0.5 * (1 + math.erf(value / math.sqrt(2))))
    for _ in range(LAYERS):
        before, before_bias, between, between_bias = (next(rest) for _ in range(4))
        project, project_bias, merge, merge_bias = (next(rest) for _ in range(4))
        grow, grow_bias, shrink, shrink_bias = (next(rest) for _ in range(4))
        parts = np.split(normal(x, before, before_bias) @ project.T + project_bias, 3, axis=-1)
        query, key, value = (
            part.reshape(len(x), TOKENS, HEADS, -1).transpose(0, 2, 1, 3) for part in parts
        )
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(WIDTH // HEADS) + future
        mixed = (softmax(scores) @ value).transpose(0, 2, 1, 3).reshape(x.shape)
        x = x + mixed @ merge.T + merge_bias
        inner = gelu(normal(x, between, between_bias) @ grow.T + grow_bias)
        x = x + inner @ shrink.T + shrink_bias
    last = normal(x, next(rest), next(rest)) @ next(rest).T
    return softmax(last + next(rest))


def test_the_transformers_numbers_are_those_of_the_definition() -> None:
    test = digits().test
    words = np.frombuffer(test.pixels, np.uint8).reshape(-1, TOKENS).astype(int)[:24]
    said = transformer(words)
    few = said[:, :-1].reshape(-1, VOCABULARY)[:64:8].ravel()[:NUMBERS]
    recorded = known_numbers("pytorch")["transformer"]
    assert close(few.tolist(), recorded["answers"], 1e-5)
    truth = np.take_along_axis(said[:, :-1], words[:, 1:, None], 2)
    assert -np.log(truth).mean() == pytest.approx(recorded["loss"][0], rel=0.05)  # 24 of 297
