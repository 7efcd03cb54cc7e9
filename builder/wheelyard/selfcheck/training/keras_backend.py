"""Train Keras 3 models by the backend that KERAS_BACKEND names.

`python -m selfcheck.training.keras_backend MODEL ...` prints JSON: the backend, where the weights
are, and what each model's last epoch came to.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from ..data import digits
from ..frameworks import import_framework
from ..models.catalogue import SPECS, Spec


def train(spec: Spec) -> dict[str, Any]:
    """Train by Keras' own loop; the loss of the last epoch, and accuracy on unseen samples."""
    import numpy as np

    from ..models.keras_models import keras, make_model
    from .keras_learner import make_optimizer, prepare

    keras.utils.set_random_seed(1)
    model = make_model(spec, dropout=False)
    model.compile(
        make_optimizer(spec), keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
    )  # fmt: skip

    def asked(part: Any) -> dict[str, Any]:
        inputs, truth = (np.asarray(values) for values in prepare(spec, part))
        weights = np.ones(truth.shape, "float32")
        if spec.task == "pixels":  # what comes after the last one is not known
            truth, weights[:, -1] = np.roll(truth, -1, 1), 0.0
        return {"x": inputs, "y": truth, "sample_weight": weights}

    split = digits()
    history = model.fit(
        **asked(split.train), epochs=spec.epochs, batch_size=spec.batch, verbose=0
    ).history
    told = model.evaluate(**asked(split.test), verbose=0, return_dict=True)
    weight = model.trainable_variables[0].value
    return {
        "loss": float(history["loss"][-1]),
        "score": float(told["accuracy"]),
        "held_by": type(weight).__module__.partition(".")[0],
    }


def main(names: list[str]) -> None:
    """Train each model and print the outcome."""
    import_framework("tensorflow")
    if os.environ.get("KERAS_BACKEND") == "torch":  # its threads would spin, and gain nothing here
        import_framework("pytorch").set_num_threads(1)
    from ..models.keras_models import keras

    seen = {name: train(SPECS[name]) for name in names}
    print(json.dumps({"backend": keras.backend.backend(), "models": seen}))


if __name__ == "__main__":
    main(sys.argv[1:])
