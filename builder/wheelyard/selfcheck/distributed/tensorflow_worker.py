"""One process of a `tf.distribute` training.

`python -m selfcheck.distributed.tensorflow_worker alone|mirrored|workers cpu|cuda`; `workers` reads
TF_CONFIG. Worker 0 prints JSON: the global batch's loss of every step, and how many took part.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import tensorflow as tf

from ..distributed.share import BATCH, joint_setup, shares
from ..models.catalogue import MOMENTUM
from ..models.keras_models import make_model
from ..training.keras_learner import loss_of, prepare

REPLICAS = 2


def strategy_of(mode: str, device: str) -> Any:
    """Make the strategy, before anything else of TensorFlow."""
    if mode == "workers":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if device == "cpu":
        (processor, *_rest) = tf.config.list_physical_devices("CPU")
        halves = [tf.config.LogicalDeviceConfiguration() for _ in range(REPLICAS)]
        tf.config.set_logical_device_configuration(processor, halves)
    count = REPLICAS if mode == "mirrored" else 1
    kind = "GPU" if device == "cuda" else "CPU"
    return tf.distribute.MirroredStrategy([f"/{kind}:{at}" for at in range(count)])


def train(strategy: Any) -> list[float]:
    """Return the loss of every step; gradients are summed over the replicas, applied by hand.

    Keras 3's optimizers know nothing of several workers, so momentum is four lines here.
    """
    setup = joint_setup("cpu")
    tf.keras.utils.set_random_seed(setup.seed)
    inputs, truth = prepare(setup.spec, setup.split.train)
    with strategy.scope():
        model = make_model(setup.spec, dropout=False)
        weights = model.trainable_variables
        weights = [_variable(weight) for weight in weights]
        speeds = [tf.Variable(tf.zeros(weight.shape), trainable=False) for weight in weights]

    def one(rows: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = model(tf.gather(inputs, rows), training=True)
            part = tf.cast(len(rows), tf.float32) / BATCH
            loss = loss_of(setup.spec, outputs, tf.gather(truth, rows)) * part
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce("SUM", tape.gradient(loss, weights))
        for weight, speed, gradient in zip(weights, speeds, gradients, strict=True):
            speed.assign(MOMENTUM * speed + gradient)
            weight.assign_sub(setup.spec.rate * speed)
        return context.all_reduce("SUM", loss)

    @tf.function  # type: ignore[untyped-decorator]
    def step(rows: Any) -> Any:
        return strategy.run(one, args=(rows,))

    losses = []
    for rows in _shares(strategy, setup):
        losses.append(float(strategy.experimental_local_results(step(rows))[0]))
    return losses


def _variable(weight: Any) -> Any:
    """Return TensorFlow's own variable, which Keras 3 wraps and calls `value`."""
    value = getattr(weight, "value", None)
    return weight if value is None or callable(value) else value


def _shares(strategy: Any, setup: Any) -> Any:
    world = strategy.num_replicas_in_sync
    orders = [list(shares(setup, world, rank)) for rank in range(world)]
    task = strategy.cluster_resolver.task_id if "TF_CONFIG" in os.environ else 0
    for step in range(len(orders[0])):
        yield strategy.experimental_distribute_values_from_function(
            lambda context, step=step: tf.constant(
                orders[max(context.replica_id_in_sync_group, task or 0)][step]
            )
        )


def main(mode: str, device: str) -> None:
    """Train, and let worker 0 say how it went."""
    strategy = strategy_of(mode, device)
    # Its rounding depends on the size of a batch.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    losses = train(strategy)
    config = json.loads(os.environ.get("TF_CONFIG", "{}"))
    if config.get("task", {}).get("index", 0) == 0:
        print(json.dumps({"world": strategy.num_replicas_in_sync, "losses": losses}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
