"""The TensorFlow side of a training: Keras models, a loop of our own."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from ..data.pictures import Pictures, copies
from ..gpu.tensorflow_ops import AMPERE, gpu_capability
from ..machine import processor
from ..models.catalogue import ASKED_AFTER, DECAY, MOMENTUM, TOKENS, VOCABULARY, Spec
from ..models.keras_models import make_model
from ..training.known import formula
from ..training.learner import Answers, Setup

keras = tf.keras
FILE = "checkpoint"
PRODUCTS = ("MatMul", "BatchMatMulV2", "Conv2D", "Einsum", "CudnnRNNV3")


class KerasLearner:
    """A model, its optimizer and its data on one device."""

    def __init__(self, setup: Setup, teacher: Any = None) -> None:
        keras.utils.set_random_seed(setup.seed)
        self.spec, self.place = setup.spec, device_of(setup.device)
        self.on_gpu = setup.device == "cuda"
        self.device_name = gpu_name() if self.on_gpu else processor()
        self.repeats = not setup.spec.dropout  # its random state is in no checkpoint
        self.halves = _halves(self.on_gpu)
        self.mixed_type = setup.half or self.halves[0] if setup.mixed else "float32"
        tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
        is_tf32 = self.on_gpu and tf32 and not setup.mixed
        self.peak_type = "tf32" if is_tf32 else self.mixed_type
        prefix = "mixed_" if setup.mixed else ""
        before = keras.mixed_precision.global_policy()
        keras.mixed_precision.set_global_policy(prefix + self.mixed_type)
        try:
            with tf.device(self.place):
                self.model = make_model(setup.spec, dropout=setup.dropout)
                self.optimizer = self._optimizer()
                # Once, so that a checkpoint finds its variables: Keras 3 makes a new loss scale
                # whenever it is asked to.
                self.optimizer.build(self.model.trainable_variables)
                self.train_data = prepare(setup.spec, setup.split.train)
                self.test_data = prepare(setup.spec, setup.split.test)
        finally:
            keras.mixed_precision.set_global_policy(before)
        self.teacher = teacher
        self._step = tf.function(self._learn)
        self._say = tf.function(lambda inputs: self.model(inputs, training=False))
        if self.on_gpu:
            tf.config.experimental.reset_memory_stats("GPU:0")

    def step(self, rows: Sequence[int]) -> Any:
        """Take one optimizer step; the loss is scaled under float16."""
        return self.accumulated([rows])

    def accumulated(self, parts: Sequence[Sequence[int]]) -> Any:
        """Take one optimizer step, by the gradients of the parts of a batch."""
        with tf.device(self.place):
            return self._step(*(tf.constant(rows, tf.int32) for rows in parts))

    def numbers(self, losses: Sequence[Any]) -> list[float]:
        """Wait for losses."""
        return [float(number) for number in losses]

    def answers(self) -> Answers:
        """Ask about the test pictures."""
        inputs, truth = self.test_data
        outputs = self.outputs(inputs)
        loss = float(loss_of(self.spec, outputs, truth))
        outputs, truth = _comparable(self.spec, outputs, truth)
        return Answers(outputs.numpy().tolist(), truth.numpy().ravel().tolist(), loss)

    def outputs(self, inputs: Any) -> Any:
        """Ask the model, in float32 and without learning from it."""
        with tf.device(self.place):
            parts = [self._say(inputs[at : at + 256]) for at in range(0, len(inputs), 256)]
            return tf.cast(tf.concat(parts, 0), tf.float32)

    def known_weights(self) -> None:
        """Set every weight by a formula; a scale of one stays near one."""
        for at, weight in enumerate(self.model.trainable_variables):
            shape = tuple(weight.shape)
            ones = 1.0 if bool(tf.reduce_all(tf.equal(weight, 1.0))) else 0.0
            count = math.prod(shape)
            inputs = count // shape[-1] if len(shape) > 1 else None
            values = formula(tf.range(count, dtype=tf.int64), at, inputs)
            weight.assign(ones + tf.reshape(tf.cast(values, tf.float32), shape))

    def moved(self, place: int) -> list[float]:
        """Measure how far the output at each place moves when the data at `place` are changed."""
        inputs = self.test_data[0][:8]
        here = tf.cast(tf.range(inputs.shape[1]) == place, inputs.dtype)
        here = tf.reshape(here, (1, -1, *(1,) * (len(inputs.shape) - 2)))
        changed = inputs + here if inputs.dtype.is_floating else (inputs + here) % VOCABULARY
        change = tf.reduce_max(tf.abs(self.outputs(changed) - self.outputs(inputs)), 0)
        flat = tf.reshape(change, (-1, change.shape[-1]))
        return [float(value) for value in tf.reduce_max(flat, 1)]

    def computed(self, rows: Sequence[int]) -> frozenset[str]:
        """Return the types in which the graph of a training step multiplies matrices."""
        self.step(rows)
        graph = self._step.get_concrete_function(tf.constant(rows, tf.int32)).graph.as_graph_def()
        nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
        types = {tf.as_dtype(node.attr["T"].type).name for node in nodes if node.op in PRODUCTS}
        return frozenset(types)

    def state(self) -> dict[str, str]:
        """Digest the variables of model and optimizer by position, since names hold a counter."""
        optimizer = self.optimizer.variables
        parts = {
            "model": self.model.weights,
            "optimizer": optimizer() if callable(optimizer) else optimizer,
        }
        return {
            f"{name}.{at}": _digest(weight)
            for name, weights in parts.items()
            for at, weight in enumerate(weights)
        }

    def loss_scale(self) -> float:
        """Return what losses are multiplied with before gradients are computed."""
        return float(self._scaled(tf.constant(1.0)))

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        self._checkpoint().write(str(folder / FILE))

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint."""
        self._checkpoint().read(str(folder / FILE)).assert_existing_objects_matched()

    def peak_memory(self) -> int | None:
        """Return the most bytes that TensorFlow held for tensors on the GPU."""
        if not self.on_gpu:
            return None
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])

    def _learn(self, *parts: Any) -> Any:
        count = sum(len(rows) for rows in parts)
        losses, found = zip(*(self._part(rows, len(rows) / count) for rows in parts), strict=True)
        # An embedding's are sparse: Keras 3 squares their parts before it adds up what belongs to
        # one word, Keras 2 after it, as Adam is defined. The sum is dense, the same to both.
        gradients = list(map(tf.add_n, zip(*found, strict=True)))
        if hasattr(self.optimizer, "get_unscaled_gradients"):
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        self.optimizer.apply_gradients(zip(gradients, self.model.trainable_variables, strict=True))
        return tf.add_n(losses)

    def _part(self, rows: Any, share: float) -> tuple[Any, list[Any]]:
        """Return what these rows add to a step's loss and gradients."""
        inputs, truth = (tf.gather(part, rows) for part in self.train_data)
        with tf.GradientTape() as tape:
            outputs = self.model(inputs, training=True)
            loss = loss_of(self.spec, outputs, truth)
            if self.teacher is not None:
                wanted = tf.gather(self.teacher, rows)
                loss = 0.3 * loss + 0.7 * imitation(outputs, wanted)
            loss *= share
            scaled = self._scaled(loss)
        return loss, tape.gradient(scaled, self.model.trainable_variables)

    def _optimizer(self) -> Any:
        optimizer = make_optimizer(self.spec)
        if self.mixed_type == "float16":
            return keras.mixed_precision.LossScaleOptimizer(optimizer)
        return optimizer

    def _scaled(self, loss: Any) -> Any:
        if self.mixed_type != "float16":
            return loss
        scale = getattr(self.optimizer, "get_scaled_loss", None) or self.optimizer.scale_loss
        return scale(loss)

    def _checkpoint(self) -> Any:
        return tf.train.Checkpoint(model=self.model, optimizer=self.optimizer)


def _digest(weight: Any) -> str:
    content: bytes = tf.convert_to_tensor(weight).numpy().tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def device_of(device: str) -> str:
    """Return TensorFlow's name of a device."""
    return "/GPU:0" if device == "cuda" else "/CPU:0"


def gpu_name() -> str:
    """Return the first GPU's name."""
    (gpu, *_rest) = tf.config.list_physical_devices("GPU")
    return str(tf.config.experimental.get_device_details(gpu).get("device_name", "GPU"))


def make_optimizer(spec: Spec) -> Any:
    """Make the spec's optimizer."""
    if spec.optimizer == "sgd":
        return keras.optimizers.SGD(spec.rate, momentum=MOMENTUM)
    if spec.optimizer == "rmsprop":
        return keras.optimizers.RMSprop(spec.rate, rho=DECAY)
    return keras.optimizers.Adam(spec.rate, epsilon=1e-8)


def loss_of(spec: Spec, outputs: Any, truth: Any) -> Any:
    """Compute the task's loss; a language model's is that of every word that is asked for."""
    outputs = tf.cast(outputs, tf.float32)
    if spec.task == "regression":
        return tf.reduce_mean(tf.square(outputs - truth))
    if spec.task == "binary":
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(truth, outputs))
    if spec.task in ASKED_AFTER:
        first = ASKED_AFTER[spec.task]
        outputs, truth = outputs[:, first:-1], truth[:, first + 1 :]
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(truth, outputs))


def imitation(outputs: Any, teacher: Any, heat: float = 4.0) -> Any:
    """Compute how far a student's softened answers are from its teacher's (Hinton et al. 2015)."""
    student = tf.nn.log_softmax(outputs / heat)
    wanted, logarithm = tf.nn.softmax(teacher / heat), tf.nn.log_softmax(teacher / heat)
    return tf.reduce_mean(tf.reduce_sum(wanted * (logarithm - student), axis=1)) * heat**2


def prepare(spec: Spec, pictures: Pictures) -> tuple[Any, Any]:
    """Make inputs and truth of a task, as the models of the catalogue take them."""
    shape = (pictures.count, pictures.channels, pictures.side, pictures.side)
    pixels = tf.reshape(tf.io.decode_raw(pictures.pixels, tf.uint8), shape)
    images = tf.cast(tf.transpose(pixels, (0, 2, 3, 1)), tf.float32) / pictures.levels
    if spec.task == "copy":
        words = tf.constant(copies(pictures.count, TOKENS, VOCABULARY), tf.int32)
        return words, words
    labels = tf.cast(tf.io.decode_raw(pictures.labels, tf.uint8), tf.int32)
    if spec.task in ("pixels", "tokens"):
        words = tf.round(_resized(images, 1, 8) * (VOCABULARY - 1))
        words = tf.cast(tf.reshape(words, (-1, TOKENS)), tf.int32)
        return words, words if spec.task == "pixels" else labels
    if spec.task == "binary":
        small = _resized(images, 1, 5)[..., 0]
        features = tf.concat((tf.reduce_mean(small, 1), tf.reduce_mean(small, 2)), 1)
        return standard(features), tf.cast(labels % 2 == 0, tf.float32)[:, None]
    channels = spec.shape[0] if len(spec.shape) == 3 else 1
    large = _resized(images, channels, 32 if spec.shape[-1] == 32 else 28)
    inputs = large if len(spec.shape) == 3 else tf.reshape(large, (-1, *spec.shape))
    return inputs, _centre(large) if spec.task == "regression" else labels


def _resized(images: Any, channels: int, side: int) -> Any:
    if channels != images.shape[-1]:
        images = tf.repeat(tf.reduce_mean(images, -1, keepdims=True), channels, axis=-1)
    if side == images.shape[1]:
        return images
    return tf.image.resize(images, (side, side), antialias=True)


def _centre(images: Any) -> Any:
    """Compute the height of a picture's centre of brightness, in standard deviations: (N, 1)."""
    rows = tf.reduce_mean(images, (2, 3))
    places = tf.range(rows.shape[1], dtype=tf.float32)
    height = tf.reduce_sum(rows * places, 1) / tf.maximum(tf.reduce_sum(rows, 1), 1e-6)
    return standard(height[:, None])


def standard(values: Any) -> Any:
    """Move and scale every column to mean 0 and standard deviation 1."""
    return (values - tf.reduce_mean(values, 0)) / tf.math.reduce_std(values, 0)


def _comparable(spec: Spec, outputs: Any, truth: Any) -> tuple[Any, Any]:
    """Return probabilities (or numbers) of shape (N, classes), and the truth of each."""
    if spec.task == "regression":
        return outputs, truth
    if spec.task == "binary":
        return tf.sigmoid(outputs), truth
    if spec.task in ASKED_AFTER:
        first = ASKED_AFTER[spec.task]
        outputs = tf.reshape(outputs[:, first:-1], (-1, VOCABULARY))
        truth = truth[:, first + 1 :]
    return tf.nn.softmax(outputs), truth


def _halves(on_gpu: bool) -> tuple[str, ...]:
    """List float16 first on a GPU, as everywhere; a processor has no fast one, but can do it."""
    if not on_gpu:
        return ("bfloat16", "float16")
    return ("float16", "bfloat16") if gpu_capability() >= AMPERE else ("float16",)
