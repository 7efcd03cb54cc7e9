"""TensorFlow inside the image: it imports, was built for what the matrix says, and trains."""

from __future__ import annotations

import math

import pytest

from tests.image.box import Box
from wheelyard.planning.facts import load_upstream

pytestmark = pytest.mark.framework("tensorflow")

# Written with TensorFlow's core alone, so that no Keras has a say; shares nothing with selfcheck.
TRAIN = """
import json, tensorflow as tf
tf.random.set_seed(0)
labels = tf.range(640) % 10
patterns = tf.random.uniform((10, 784))
images = tf.gather(patterns, labels) + tf.random.normal((640, 784)) / 4  # patterns under noise
first = tf.Variable(tf.random.normal((784, 128)) / 28)
second = tf.Variable(tf.random.normal((128, 10)) / 11)
@tf.function
def step(x, y):
    with tf.GradientTape() as tape:
        logits = tf.nn.relu(x @ first) @ second
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
    for variable, slope in zip((first, second), tape.gradient(loss, (first, second))):
        variable.assign_sub(0.05 * slope)
    return loss
losses = []
for epoch in range(5):
    for start in range(0, 640, 64):
        losses.append(float(step(images[start:start + 64], labels[start:start + 64])))
print(json.dumps(losses))
"""
KERAS = """
import json, keras, numpy, os, tempfile
model = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
model.compile("sgd", "mse")
x = numpy.linspace(-1, 1, 64).reshape(-1, 1)
with tempfile.TemporaryDirectory() as folder:
    writing = [keras.callbacks.TensorBoard(folder)]
    history = model.fit(x, 2 * x + 1, epochs=5, verbose=0, callbacks=writing).history
    events = [name for _, _, names in os.walk(folder) for name in names]
print(json.dumps([keras.__version__, history["loss"], len(events)]))
"""


def version_of(box: Box) -> str:
    """The cell's TensorFlow, which may stand behind another framework."""
    cell = box.image.cell
    named = zip(cell["framework"].split("+"), cell["framework_version"].split("+"), strict=True)
    return dict(named)["tensorflow"]


@pytest.mark.cuda(True)
def test_it_imports_with_the_cells_versions(box: Box) -> None:
    version, built = box.python(
        "import json, tensorflow as tf\n"
        "print(json.dumps([tf.__version__, tf.sysconfig.get_build_info()['cuda_version']]))"
    )
    assert version == version_of(box)
    assert built == load_upstream()["tensorflow"][version].cuda


@pytest.mark.cuda(True)
def test_it_was_compiled_for_the_gpus_of_the_facts(box: Box) -> None:
    found = box.python(
        "import json, tensorflow as tf\n"
        "print(json.dumps(tf.sysconfig.get_build_info()['cuda_compute_capabilities']))"
    )
    assert tuple(found) == load_upstream()["tensorflow"][version_of(box)].architectures


def test_it_finds_the_cuda_libraries_of_the_wheels(box: Box) -> None:
    """It opens them when asked for GPUs; without a driver, none may be missing but the driver's."""
    result = box.dev.run("python -c 'import tensorflow as tf; tf.config.list_physical_devices()'")
    assert result.rc == 0, result.stderr
    missing = [line for line in result.stderr.splitlines() if "Could not load dynamic" in line]
    assert [line for line in missing if "libcuda.so" not in line] == []


def test_a_small_training_loop_learns(box: Box) -> None:
    losses = box.python(TRAIN)
    assert all(map(math.isfinite, losses))
    assert losses[0] > 1.5  # ten classes: guessing costs ln 10 = 2.3
    assert sum(losses[-10:]) / 10 < 0.3


def test_keras_trains_and_writes_for_tensorboard(box: Box) -> None:
    """TensorFlow 2.21 brings no TensorBoard of its own any more (tensorflow#110709)."""
    version, losses, events = box.python(KERAS)
    assert events
    assert version.split(".")[0] in ("2", "3")
    assert losses[-1] < losses[0]
