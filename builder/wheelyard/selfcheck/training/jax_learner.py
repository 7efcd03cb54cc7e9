"""The JAX side of a training: plain functions, compiled by `jit`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import nn
from jax import numpy as jnp

from ..data.pictures import Pictures, copies
from ..machine import processor
from ..models.catalogue import ASKED_AFTER, MOMENTUM, TOKENS, VOCABULARY, Spec
from ..models.jax_models import Model, make_model
from ..training.known import formula
from ..training.learner import Answers, Setup

FILE = "checkpoint.npz"
PRODUCTS = ("dot_general", "conv_general_dilated")
BETA, SQUARE, EPSILON = 0.9, 0.999, 1e-8  # of Adam


class JaxLearner:
    """A model, its optimizer and its data on one device."""

    repeats = True  # the random state travels in the checkpoint
    halves: tuple[str, ...] = (
        "bfloat16",
    )  # float16 needs a scaled loss, which plain JAX has nothing for

    def __init__(self, setup: Setup) -> None:
        self.spec, self.dropout = setup.spec, setup.dropout
        self.on_gpu = setup.device == "cuda"
        self.device = jax.local_devices(backend="gpu" if self.on_gpu else "cpu")[0]
        self.device_name = self.device.device_kind if self.on_gpu else processor()
        self.mixed_type = "bfloat16" if setup.mixed else "float32"
        # By default XLA multiplies float32 in TF32 on a GPU that has it.
        self.peak_type = "tf32" if self.on_gpu and not setup.mixed else self.mixed_type
        self.architecture: Model = make_model(setup.spec)
        with jax.default_device(self.device):
            key, self.random = jax.random.split(jax.random.key(setup.seed))
            self.model = self.architecture.weights(key)
            self.optimizer = make_optimizer(setup.spec, self.model)
            self.train_data = prepare(setup.spec, setup.split.train)
            self.test_data = prepare(setup.spec, setup.split.test)
        self._step, self._say = jax.jit(self.learn), jax.jit(self._answer)

    def step(self, rows: Sequence[int]) -> Any:
        """Take one optimizer step."""
        return self.accumulated([rows])

    def accumulated(self, parts: Sequence[Sequence[int]]) -> Any:
        """Take one optimizer step, by the gradients of the parts of a batch."""
        state = (self.model, self.optimizer, self.random)
        with jax.default_device(self.device):
            loss, (self.model, self.optimizer, self.random) = self._step(
                state, [jnp.asarray(rows) for rows in parts], self.train_data
            )
        return loss

    def numbers(self, losses: Sequence[Any]) -> list[float]:
        """Wait for losses."""
        return [float(number) for number in losses]

    def answers(self) -> Answers:
        """Ask about the test pictures."""
        inputs, truth = self.test_data
        outputs = self.outputs(inputs)
        loss = float(loss_of(self.spec, outputs, truth))
        outputs, truth = _comparable(self.spec, outputs, truth)
        return Answers(np.asarray(outputs).tolist(), np.asarray(truth).ravel().tolist(), loss)

    def outputs(self, inputs: Any) -> Any:
        """Return what the model says, in float32 and without learning from it."""
        with jax.default_device(self.device):
            parts = [
                self._say(self.model, inputs[at : at + 256]) for at in range(0, len(inputs), 256)
            ]
            return jnp.concatenate(parts).astype(jnp.float32)

    def known_weights(self) -> None:
        """Set every weight by a formula; a scale of one stays near one."""
        for at, shape in enumerate(self.architecture.shapes):
            count = math.prod(shape)
            inputs = count // shape[-1] if len(shape) > 1 else None
            values = formula(np.arange(count, dtype=np.int64), at, inputs).reshape(shape)
            ones = 1.0 if at in self.architecture.scales else 0.0
            self.model[at] = jax.device_put((ones + values).astype(np.float32), self.device)

    def moved(self, place: int) -> list[float]:
        """Measure how far the output at each place moves when the data at `place` are changed."""
        inputs = self.test_data[0][:8]
        changed = inputs.at[:, place].set((inputs[:, place] + 1) % VOCABULARY)
        change = jnp.abs(self.outputs(changed) - self.outputs(inputs)).max(0)
        return [float(value) for value in change.reshape(-1, change.shape[-1]).max(1)]

    def computed(self, rows: Sequence[int]) -> frozenset[str]:
        """Find the types in which a training step multiplies matrices, as JAX traces it."""
        state = (self.model, self.optimizer, self.random)
        traced = jax.make_jaxpr(self.learn)(state, [jnp.asarray(rows)], self.train_data)
        self.step(rows)
        return frozenset(_types(traced.jaxpr))

    def loss_scale(self) -> float:
        """Return what losses are multiplied with before gradients are computed: nothing."""
        return 1.0

    def state(self) -> dict[str, str]:
        """Return a digest of weights, optimizer and random state, by name."""
        return {
            name: hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
            for name, value in self._parts().items()
        }

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        np.savez(folder / FILE, allow_pickle=False, **self._parts())

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint."""
        with np.load(folder / FILE, allow_pickle=False) as found:
            parts = {name: jax.device_put(found[name], self.device) for name in found.files}
        self.model = [parts[f"model.{at}"] for at in range(len(self.model))]
        self.optimizer = [
            [parts[f"optimizer.{kind}.{at}"] for at in range(len(values))]
            for kind, values in enumerate(self.optimizer)
        ]
        self.random = jax.random.wrap_key_data(parts["random"])

    def peak_memory(self) -> int | None:
        """Return the most bytes that JAX held on the GPU; this cannot be reset."""
        statistics = self.device.memory_stats() if self.on_gpu else None
        return None if statistics is None else int(statistics["peak_bytes_in_use"])

    def learn(self, state: Any, parts: Any, data: Any) -> Any:
        """Take a step from a state, by rows of the data: a function for `jit` and its like."""
        weights, optimizer, random = state
        random, *keys = jax.random.split(random, 1 + len(parts))
        count = sum(map(len, parts))
        found = [
            jax.value_and_grad(self._loss)(weights, rows, data, key, len(rows) / count)
            for rows, key in zip(parts, keys, strict=True)
        ]
        losses, gradients = zip(*found, strict=True)
        added = [sum(each) for each in zip(*gradients, strict=True)]
        weights, optimizer = updated(self.spec, weights, added, optimizer)
        return sum(losses), (weights, optimizer, random)

    def _parts(self) -> dict[str, Any]:
        parts = {f"model.{at}": value for at, value in enumerate(self.model)}
        for kind, values in enumerate(self.optimizer):
            parts |= {f"optimizer.{kind}.{at}": value for at, value in enumerate(values)}
        parts["random"] = jax.random.key_data(self.random)
        return {name: np.asarray(value) for name, value in parts.items()}

    def _loss(self, weights: Any, rows: Any, data: Any, key: Any, share: float) -> Any:
        inputs, truth = (part[rows] for part in data)
        keys = iter(jax.random.split(key))

        def drop(values: Any, rate: float) -> Any:
            if not self.dropout:
                return values
            kept = jax.random.bernoulli(next(keys), 1 - rate, values.shape)
            return jnp.where(kept, values / (1 - rate), 0)

        outputs = self._apply(weights, inputs, drop).astype(jnp.float32)
        return loss_of(self.spec, outputs, truth) * share

    def _answer(self, weights: Any, inputs: Any) -> Any:
        return self._apply(weights, inputs, lambda values, _rate: values)

    def _apply(self, weights: Any, inputs: Any, drop: Any) -> Any:
        if self.mixed_type != "float32":
            weights = [weight.astype(self.mixed_type) for weight in weights]
            if jnp.issubdtype(inputs.dtype, jnp.floating):
                inputs = inputs.astype(self.mixed_type)
        return self.architecture.apply(weights, inputs, drop)


def make_optimizer(spec: Spec, weights: Sequence[Any]) -> list[list[Any]]:
    """Make what the spec's optimizer remembers of every weight; Adam counts its steps as well."""
    zeros = [jnp.zeros_like(weight) for weight in weights]
    return [zeros] if spec.optimizer == "sgd" else [zeros, zeros, [jnp.zeros(())]]


def updated(
    spec: Spec, weights: Sequence[Any], gradients: Sequence[Any], memory: Sequence[Any]
) -> tuple[list[Any], list[list[Any]]]:
    """Return the weights after a step of SGD with momentum, or of Adam."""
    if spec.optimizer == "sgd":
        speed = [
            MOMENTUM * old - spec.rate * gradient
            for old, gradient in zip(memory[0], gradients, strict=True)
        ]
        return [weight + step for weight, step in zip(weights, speed, strict=True)], [speed]
    means, squares, (count,) = memory
    count = count + 1
    means = [BETA * m + (1 - BETA) * g for m, g in zip(means, gradients, strict=True)]
    squares = [SQUARE * s + (1 - SQUARE) * g * g for s, g in zip(squares, gradients, strict=True)]
    rate = spec.rate * jnp.sqrt(1 - SQUARE**count) / (1 - BETA**count)
    moved = [
        weight - rate * mean / (jnp.sqrt(square) + EPSILON)
        for weight, mean, square in zip(weights, means, squares, strict=True)
    ]
    return moved, [means, squares, [count]]


def loss_of(spec: Spec, outputs: Any, truth: Any) -> Any:
    """Compute the task's loss; a language model's is that of every word that is asked for."""
    if spec.task == "regression":
        return jnp.mean((outputs - truth) ** 2)
    if spec.task in ASKED_AFTER:
        first = ASKED_AFTER[spec.task]
        outputs, truth = outputs[:, first:-1], truth[:, first + 1 :]
    chances = nn.log_softmax(outputs)
    return -jnp.mean(jnp.take_along_axis(chances, truth[..., None], -1))


def prepare(spec: Spec, pictures: Pictures) -> tuple[Any, Any]:
    """Make inputs and truth of a task, as the models of the catalogue take them."""
    shape = (pictures.count, pictures.channels, pictures.side, pictures.side)
    pixels = np.frombuffer(pictures.pixels, np.uint8).reshape(shape).transpose(0, 2, 3, 1)
    images = jnp.asarray(pixels, jnp.float32) / pictures.levels
    if spec.task == "copy":
        words = jnp.asarray(copies(pictures.count, TOKENS, VOCABULARY))
        return words, words
    if spec.task == "pixels":
        words = jnp.round(_resized(images, 8) * (VOCABULARY - 1))
        words = words.astype(jnp.int32).reshape(-1, TOKENS)
        return words, words
    large = _resized(images, 28)
    inputs = large if len(spec.shape) == 3 else large.reshape(-1, *spec.shape)
    if spec.task == "regression":
        return inputs, _centre(large)
    return inputs, jnp.asarray(np.frombuffer(pictures.labels, np.uint8), jnp.int32)


def _resized(images: Any, side: int) -> Any:
    images = images.mean(-1, keepdims=True)
    shape = (len(images), side, side, 1)
    return images if side == images.shape[1] else jax.image.resize(images, shape, "bilinear")


def _centre(images: Any) -> Any:
    """Compute the height of a picture's centre of brightness, in standard deviations: (N, 1)."""
    rows = images.mean((2, 3))
    height = (rows * jnp.arange(rows.shape[1])).sum(1) / jnp.maximum(rows.sum(1), 1e-6)
    return ((height - height.mean()) / height.std())[:, None]


def _comparable(spec: Spec, outputs: Any, truth: Any) -> tuple[Any, Any]:
    """Return probabilities (or numbers) of shape (N, classes), and the truth of each."""
    if spec.task == "regression":
        return outputs, truth
    if spec.task in ASKED_AFTER:
        first = ASKED_AFTER[spec.task]
        outputs = outputs[:, first:-1].reshape(-1, VOCABULARY)
        truth = truth[:, first + 1 :]
    return nn.softmax(outputs), truth


def _types(traced: Any) -> Iterator[str]:
    """Yield the types that products come out in, inner functions included."""
    for equation in traced.eqns:
        if equation.primitive.name in PRODUCTS:
            yield str(equation.outvars[0].aval.dtype)
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _types(inner)
