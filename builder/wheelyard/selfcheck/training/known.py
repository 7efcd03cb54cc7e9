"""Known answers: with weights of a formula, a model must compute the numbers that are recorded.

A model that learns proves little: with a layer left out, or a softmax over the wrong axis, it still
learns digits. Its arithmetic is compared instead, number by number: what it answers, the loss, and
the losses of the first steps, which take gradients and the optimizer. data/known.json was recorded
from the real models; tests/unit computes the Transformer's in NumPy, from the definition.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from ..data import digits
from ..models.catalogue import ASKED_AFTER, Spec
from .learner import Learner, Setup
from .run import MakeLearner

ROWS, STEPS, NUMBERS = 16, 4, 24
RECORDED = {"jax": "tensorflow"}  # the same shapes in the same order, hence the same numbers
PLACE = {
    "transformer": 40,
    "copy": 40,
    "lstm": 3,
    "gru": 3,
    "rnn": 20,
    "bert": 40,
}  # a change there must be seen
STILL = 1e-5  # what does not depend on the change moves less than this, and what does, more
DROPPED = 1e-4  # what dropout changes a loss by, at least; sums in another order change it less
# Relative to the largest number, over STEPS optimizer steps. What rounding does was measured on a
# processor (docs/selfcheck.md): products whose factors lose the bits that TF32 lacks move them by
# 7e-4 when rounded and 1.6e-3 when cut off, at most; a float32 with three bits less, by 1e-6.
TOLERANCES = {"float32": 5e-4, "tf32": 5e-3}


def formula(places: Any, at: int, inputs: int | None) -> Any:
    """Compute the weights of variable `at`, from the places of a tensor of whole numbers.

    `inputs` is how many numbers a sum goes over; a vector (a bias, a scale) has none.
    """
    spread = (places * places * 7919 + places * 104729 + 31 * (at + 1)) % 65536
    return (spread / 65536 - 0.5) * (0.2 if inputs is None else 2.5 / math.sqrt(inputs))


def compute(learner: Learner) -> dict[str, list[float]]:
    """Compute the numbers that must be as they are recorded."""
    learner.known_weights()
    answers = learner.answers()
    few = [number for row in answers.outputs[:64:8] for number in row][:NUMBERS]
    rows = list(range(ROWS))
    losses = learner.numbers([learner.step(rows) for _ in range(STEPS)])
    if (kinds := learner.computed(rows)) != {"float32"}:
        raise TypeError(f"a step in float32 multiplies matrices in {', '.join(sorted(kinds))}")
    return {"answers": few, "loss": [answers.loss], "losses": losses}


def setup_of(spec: Spec, device: str, **changes: Any) -> Setup:
    """Set up a few of our digits, without chance."""
    small = replace(spec, batch=ROWS)
    return Setup(small, digits(), device, seed=1, **{"dropout": False, "threads": 1, **changes})


def fault(make: MakeLearner, spec: Spec, framework: str, device: str) -> str | None:
    """Say what is wrong with a model's arithmetic; None where nothing is."""
    if recorded := known_numbers(framework).get(spec.name):
        learner = make(setup_of(spec, device))
        seen = compute(learner)
        for name, wanted in recorded.items():
            if not close(seen[name], wanted, TOLERANCES[learner.peak_type]):
                return (
                    f"with known weights the model's {name} are not the recorded numbers: "
                    f"{_shown(seen[name])} instead of {_shown(wanted)}"
                )
    return _of_dependence(make, spec, device) or _of_dropout(make, spec, device)


def _of_dependence(make: MakeLearner, spec: Spec, device: str) -> str | None:
    if spec.name not in PLACE:
        return None
    learner = make(setup_of(spec, device))
    learner.known_weights()
    place = PLACE[spec.name]
    return dependence(learner.moved(place), place, causal=spec.task in ASKED_AFTER)


def dependence(moved: Sequence[float], place: int, *, causal: bool) -> str | None:
    """Say what is wrong with how the outputs move when the data at `place` change."""
    if causal and not all(change < STILL for change in moved[:place]):
        return f"outputs before place {place} change with the word there: nothing masks the future"
    if not all(change > STILL for change in (moved[place + 1 :] if causal else moved)):
        return f"outputs do not depend on what is at place {place}: nothing carries it there"
    return None


def _of_dropout(make: MakeLearner, spec: Spec, device: str) -> str | None:
    if not spec.dropout:
        return None
    runs = []
    for dropout in (True, False):
        learner = make(setup_of(spec, device, dropout=dropout))
        learner.known_weights()
        if learner.answers().loss != learner.answers().loss:
            return "two answers to the same data differ: dropout is not switched off for them"
        steps = [learner.step(list(range(ROWS))) for _ in range(STEPS)]
        runs.append(learner.numbers(steps))
    if not max(abs(one - other) for one, other in zip(*runs, strict=True)) > DROPPED:
        return "dropout does nothing: the losses of training steps are those without it"
    return None


def close(seen: Sequence[float], wanted: Sequence[float], tolerance: float) -> bool:
    """Say whether each value is within the tolerance of the largest."""
    largest = max(map(abs, wanted))
    return len(seen) == len(wanted) and all(
        abs(one - other) <= tolerance * largest for one, other in zip(seen, wanted, strict=True)
    )


def _shown(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:.4g}" for number in numbers[:4])


@cache
def known_numbers(framework: str) -> dict[str, dict[str, list[float]]]:
    """Read what is recorded, by model."""
    package = __package__.rpartition(".")[0]
    text = files(f"{package}.data").joinpath("known.json").read_text(encoding="utf-8")
    recorded = RECORDED.get(framework, framework)
    numbers: dict[str, dict[str, list[float]]] = json.loads(text)[recorded]
    return numbers
