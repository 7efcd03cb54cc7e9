"""JAX inside the image: it imports with its plugin, compiles, trains, and shares a GPU's memory."""

from __future__ import annotations

import math

import pytest

from tests.image.box import Box

pytestmark = pytest.mark.framework("jax")

# Shares nothing with selfcheck: softmax regression by jit and grad.
TRAIN = """
import json, jax, jax.numpy as jnp
key = jax.random.key(0)
labels = jnp.arange(640) % 10
patterns = jax.random.uniform(key, (10, 784))
images = patterns[labels] + jax.random.normal(key, (640, 784)) / 4  # patterns under noise
def loss_of(weights, x, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(x @ weights), y[:, None], 1).mean()
@jax.jit
def step(weights, x, y):
    loss, slope = jax.value_and_grad(loss_of)(weights, x, y)
    return weights - 0.02 * slope, loss
weights, losses = jnp.zeros((784, 10)), []
for epoch in range(5):
    for start in range(0, 640, 64):
        part = slice(start, start + 64)
        weights, loss = step(weights, images[part], labels[part])
        losses.append(float(loss))
print(json.dumps(losses))
"""
KERAS = """
import json, os
os.environ["KERAS_BACKEND"] = "%s"
import keras, numpy
model = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
model.compile("sgd", "mse")
x = numpy.linspace(-1, 1, 64).reshape(-1, 1)
history = model.fit(x, 2 * x + 1, epochs=5, verbose=0).history
held = type(model.trainable_variables[0].value).__module__.partition(".")[0]
print(json.dumps([keras.backend.backend(), held, history["loss"]]))
"""
# What the CUDA plugin would be started with; no public name says it.
MEMORY = """
import json, os
os.environ.update(%s)
from jaxlib.xla_client import generate_pjrt_gpu_plugin_options
print(json.dumps(generate_pjrt_gpu_plugin_options()))
"""
MODULES = {"pytorch": "torch", "tensorflow": "tensorflow", "jax": "jax"}


def test_it_imports_with_the_cells_version_and_a_plugin_of_the_same(box: Box) -> None:
    cell = box.image.cell
    named = zip(cell["framework"].split("+"), cell["framework_version"].split("+"), strict=True)
    major = cell["cuda"].partition(".")[0]
    parts = ("jaxlib", f"jax-cuda{major}-plugin", f"jax-cuda{major}-pjrt")
    version, *others = box.python(
        "import json, jax\nfrom importlib.metadata import version\n"
        f"print(json.dumps([jax.__version__, *map(version, {parts})]))"
    )
    assert [version, *others] == [dict(named)["jax"]] * 4


def test_a_small_training_loop_learns(box: Box) -> None:
    losses = box.python(TRAIN)
    assert all(map(math.isfinite, losses))
    assert losses[0] == pytest.approx(math.log(10), rel=1e-3)
    assert sum(losses[-10:]) / 10 < 0.3


def test_it_takes_all_memory_only_where_it_is_alone(box: Box) -> None:
    alone = "+" not in box.image.cell["framework"]
    options = box.python(MEMORY % {})
    assert options.get("preallocate", True) is alone
    assert "memory_fraction" not in options
    changed = {"XLA_PYTHON_CLIENT_PREALLOCATE": str(not alone).lower()}
    changed["XLA_PYTHON_CLIENT_MEM_FRACTION"] = ".4"
    options = box.python(MEMORY % changed)
    assert (options["preallocate"], options["memory_fraction"]) == (not alone, 0.4)


@pytest.mark.framework("tensorflow")  # which brings Keras
def test_keras_trains_by_each_framework(box: Box) -> None:
    for framework in box.image.cell["framework"].split("+"):
        module = MODULES[framework]
        backend, held, losses = box.python(KERAS % module)
        assert backend == module
        assert held == ("jaxlib" if module == "jax" else module)
        assert losses[-1] < losses[0]


def test_the_compiler_of_its_kernels_is_found(box: Box) -> None:
    """XLA calls ptxas and reads libdevice from the wheel's folder, wherever one is."""
    (where,) = box.lines(
        "python -c 'import nvidia.cuda_nvcc as it; print(*it.__path__)'"
        if box.image.cell["cuda"].startswith("12")
        else "python -c 'import nvidia.cu13 as it; print(*it.__path__)'"
    )
    assert box.lines(f"{where}/bin/ptxas --version")
    assert box.dev.file(f"{where}/nvvm/libdevice/libdevice.10.bc").exists


def test_selfcheck_trains_it_without_a_traceback_of_a_missing_driver(box: Box) -> None:
    """JAX logs one as an error where no driver is; with a driver it tells of a fault."""
    result = box.dev.run("selfcheck train --framework jax --model mlp --device cpu")
    assert result.rc == 0, f"{result.stderr}\n{result.stdout}"
    assert "pass  train.mlp.jax" in result.stdout
    if box.dev.run("ls /dev/nvidiactl").rc:
        assert "Traceback" not in result.stderr
