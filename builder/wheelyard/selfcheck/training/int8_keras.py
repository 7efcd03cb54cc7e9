"""Dynamic int8 quantization in Keras 3; TensorFlow Lite's before that."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ..training.keras_learner import KerasLearner, loss_of
from ..training.learner import Answers


def quantize(learner: KerasLearner) -> tuple[int, int, Answers]:
    """Return the bytes before and after, and the int8 model's answers."""
    before = sum(_bytes(weight) for weight in learner.model.weights)
    by = _by_keras if hasattr(learner.model, "quantize") else _by_lite
    after, outputs = by(learner)
    truth = learner.test_data[1]
    answers = Answers(
        tf.nn.softmax(outputs).numpy().tolist(),
        truth.numpy().tolist(),
        float(loss_of(learner.spec, outputs, truth)),
    )
    return before, after, answers


def _by_keras(learner: KerasLearner) -> tuple[int, Any]:
    model = tf.keras.models.clone_model(learner.model)
    model.set_weights(learner.model.get_weights())
    model.quantize("int8")
    outputs = model(learner.test_data[0], training=False)
    return sum(_bytes(weight) for weight in model.weights), outputs


def _by_lite(learner: KerasLearner) -> tuple[int, Any]:
    converter = tf.lite.TFLiteConverter.from_keras_model(learner.model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    content = converter.convert()
    interpreter = tf.lite.Interpreter(model_content=content)
    entry, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    inputs = learner.test_data[0]
    interpreter.resize_tensor_input(entry["index"], inputs.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(entry["index"], inputs)
    interpreter.invoke()
    return len(content), tf.constant(interpreter.get_tensor(result["index"]))


def _bytes(weight: Any) -> int:
    return int(tf.size(weight)) * int(tf.as_dtype(weight.dtype).size)
