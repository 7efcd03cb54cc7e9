"""Two trainings under the framework's determinism switch: not one bit may differ.

Run as a program, `python -m selfcheck.gpu.repeating FRAMEWORK DEVICE`, it trains once and prints
the losses: cuBLAS reads its setting when it starts, so each training needs a new process.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace

from .. import child
from ..data import digits
from ..frameworks import import_framework
from ..models.catalogue import SPECS
from ..result import Outcome, failed, passed
from ..training.learner import Setup
from ..training.run import batches
from ..training.sides import learner_of

MODEL, STEPS = "cnn-9216", 8
SETTINGS = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
BY_JAX = {"XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}


def check_determinism(framework: str, device: str = "cuda") -> Outcome:
    """Train in two processes, which must report the same losses."""
    command = child.module(f"{__package__}.repeating", framework, device)
    settings = {**SETTINGS, **(BY_JAX if framework == "jax" else {})}
    first, second = (child.last_json(child.run(command, settings)) for _ in range(2))
    return judge(first, second)


def judge(first: list[float], second: list[float]) -> Outcome:
    """Compare the losses of both trainings, which have to be some, and numbers."""
    seen = {"first": first, "second": second}
    if not first or not all(map(math.isfinite, first)):
        return failed("the trainings led to no losses that could be compared", seen)
    if first != second:
        return failed("two trainings differ though determinism was asked for", seen)
    return passed(seen)


def losses(framework: str, device: str) -> list[float]:
    """Return a few steps' losses, under the determinism switch."""
    module = import_framework(framework)
    if framework == "tensorflow":
        module.config.experimental.enable_op_determinism()
        module.keras.utils.set_random_seed(1)
    elif framework == "pytorch":  # JAX reads its switch, BY_JAX, when it starts
        module.use_deterministic_algorithms(True)
        module.backends.cudnn.benchmark = False
    setup = Setup(replace(SPECS[MODEL], batch=32), digits(), device, seed=1)
    learner = learner_of(framework)(setup)
    rows = list(batches(setup.split.train.count, 32, 1, 0))[:STEPS]
    return learner.numbers([learner.step(each) for each in rows])


if __name__ == "__main__":
    print(json.dumps(losses(sys.argv[1], sys.argv[2])))
