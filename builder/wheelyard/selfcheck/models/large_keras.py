"""ResNet-50 and GPT-2 in Keras, with data of chance and an optimizer."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ..gpu.tensorflow_ops import AMPERE, gpu_capability
from ..machine import processor
from ..models.large import Gpt2, ResNet, stages
from ..training.keras_learner import device_of, gpu_name

keras = tf.keras
layers = keras.layers


def _convolved(images: Any, filters: int, size: int, stride: int = 1) -> Any:
    padded = layers.ZeroPadding2D(size // 2)(images) if size > 1 else images
    convolved = layers.Conv2D(filters, size, stride, use_bias=False)(padded)
    return layers.BatchNormalization(epsilon=1e-5)(convolved)


def resnet(shape: ResNet) -> Any:
    """Make the ResNet: (N, side, side, 3) -> (N, classes)."""
    images = keras.Input((shape.side, shape.side, 3))
    values = layers.ReLU()(_convolved(images, shape.width, 7, 2))
    values = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(values))
    for inputs, width, stride in stages(shape):
        body = layers.ReLU()(_convolved(values, width, 1))
        body = layers.ReLU()(_convolved(body, width, 3, stride))
        body = _convolved(body, 4 * width, 1)
        same = stride == 1 and inputs == 4 * width
        around = values if same else _convolved(values, 4 * width, 1, stride)
        values = layers.ReLU()(layers.Add()([body, around]))
    pooled = layers.GlobalAveragePooling2D()(values)
    return keras.Model(images, layers.Dense(shape.classes, dtype="float32")(pooled))


class Decoder(keras.Model):  # type: ignore[misc,name-defined]
    """(N, T) words -> (N, T, vocabulary)."""

    def __init__(self, shape: Gpt2) -> None:
        super().__init__()
        tables = keras.initializers.RandomNormal(stddev=0.02)
        self.words = layers.Embedding(shape.vocabulary, shape.width, embeddings_initializer=tables)
        self.places = layers.Embedding(shape.tokens, shape.width, embeddings_initializer=tables)
        self.parts = [_Layer(shape) for _ in range(shape.layers)]
        self.last = layers.LayerNormalization(epsilon=1e-5)

    def call(self, words: Any) -> Any:
        """Return logits of the next word at every place, by the embedding itself."""
        hidden = self.words(words) + self.places(tf.range(words.shape[1]))
        for part in self.parts:
            hidden = part(hidden)
        hidden = self.last(hidden)
        table = tf.cast(tf.convert_to_tensor(self.words.embeddings), hidden.dtype)
        return tf.cast(tf.matmul(hidden, table, transpose_b=True), tf.float32)


class _Layer(layers.Layer):  # type: ignore[misc,name-defined]
    """Causal self-attention and a feed-forward layer, norms in front."""

    def __init__(self, shape: Gpt2) -> None:
        super().__init__()
        self.first = layers.LayerNormalization(epsilon=1e-5)
        self.second = layers.LayerNormalization(epsilon=1e-5)
        self.attention = layers.MultiHeadAttention(shape.heads, shape.width // shape.heads)
        self.grow = layers.Dense(4 * shape.width, activation="gelu")
        self.shrink = layers.Dense(shape.width)

    def call(self, words: Any) -> Any:
        """Apply the layer: (N, T, width) -> the same."""
        normal = self.first(words)
        words = words + self.attention(normal, normal, use_causal_mask=True)
        return words + self.shrink(self.grow(self.second(words)))


class Large:
    """A model in training on one batch of chance."""

    def __init__(self, shape: ResNet | Gpt2, device: str) -> None:
        keras.utils.set_random_seed(1)
        self.place, self.on_gpu = device_of(device), device != "cpu"
        self.name = gpu_name() if self.on_gpu else processor()
        self.type = _type(self.on_gpu)
        before = keras.mixed_precision.global_policy()
        mixed = "float32" if self.type == "float32" else f"mixed_{self.type}"
        keras.mixed_precision.set_global_policy(mixed)
        try:
            with tf.device(self.place):
                self.model = resnet(shape) if isinstance(shape, ResNet) else Decoder(shape)
                self.inputs, self.truth = data(shape)
                self.model(self.inputs[:1])
                self.optimizer = keras.optimizers.Adam(shape.rate)
        finally:
            keras.mixed_precision.set_global_policy(before)
        if self.type == "float16":
            self.optimizer = keras.mixed_precision.LossScaleOptimizer(self.optimizer)
        self.optimizer.build(self.model.trainable_variables)
        self._step = tf.function(self._learn)
        self.last: Any = None
        if self.on_gpu:
            tf.config.experimental.reset_memory_stats("GPU:0")

    def step(self) -> Any:
        """Take one optimizer step; return the loss without waiting for it."""
        with tf.device(self.place):
            self.last = self._step()
        return self.last

    def wait(self) -> None:
        """Wait until the device is done."""
        float(self.last)

    def memory(self) -> int:
        """Return the most bytes of the GPU that were in use; 0 on a processor."""
        info = tf.config.experimental.get_memory_info("GPU:0") if self.on_gpu else {"peak": 0}
        return int(info["peak"])

    def _learn(self) -> Any:
        with tf.GradientTape() as tape:
            outputs = self.model(self.inputs, training=True)  # for batch norm
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(self.truth, outputs)
            )
            scaled = loss
            if self.type == "float16":
                scale = getattr(self.optimizer, "get_scaled_loss", None)
                scaled = (scale or self.optimizer.scale_loss)(loss)
        weights = self.model.trainable_variables
        gradients = [tf.convert_to_tensor(each) for each in tape.gradient(scaled, weights)]
        if hasattr(self.optimizer, "get_unscaled_gradients"):
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return loss


def parameters(shape: ResNet | Gpt2) -> int:
    """Count the model's weights without batch norm's running means."""
    with tf.device(device_of("cpu")):
        model = resnet(shape) if isinstance(shape, ResNet) else Decoder(shape)
        if isinstance(shape, Gpt2):
            model(tf.zeros((1, 8), tf.int32))
    return sum(int(tf.size(weight)) for weight in model.trainable_variables)


def _type(on_gpu: bool) -> str:
    if not on_gpu:
        return "float32"
    return "bfloat16" if gpu_capability() >= AMPERE else "float16"


def data(shape: ResNet | Gpt2) -> tuple[Any, Any]:
    """Make one batch: pictures and kinds, or words and the next words."""
    if isinstance(shape, ResNet):
        images = tf.random.uniform((shape.batch, shape.side, shape.side, 3))
        return images, tf.random.uniform((shape.batch,), 0, shape.classes, tf.int32)
    size = (shape.batch, shape.tokens + 1)
    words = tf.random.uniform(size, 0, shape.vocabulary, tf.int32)
    return words[:, :-1], words[:, 1:]
