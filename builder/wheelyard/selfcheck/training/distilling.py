"""Teach a small model by a big one, then store the small one's weights in eight bits."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

from ..result import Outcome, failed, passed, skipped
from ..training.figures import figures
from ..training.learner import NotHereError, Setup
from ..training.run import Run, score, train
from ..training.sides import learner_of

NEARER = 0.7  # of the divergence of a student alone
TINY = 1e-9
LOST = 0.03  # accuracy that eight bits may cost
SMALLER = 0.35  # of the float32 size: a quarter, and the scales


def check_distillation(framework: str, teacher: Run, setup: Setup) -> Outcome:
    """Check that a student comes far nearer to its teacher's answers than one alone."""
    student, alone = distilled(framework, teacher, setup), train(learner_of(framework), setup)
    taught, untaught = (divergence(teacher, each) for each in (student, alone))
    seen = {
        "teacher_accuracy": teacher.scores["accuracy"],
        "divergence": {"taught": taught, "alone": untaught},
        **figures(student),
    }
    wanted = {"score_at_least": setup.spec.score, "divergence_at_most": NEARER * untaught}
    if not student.curve.losses[-1] < student.curve.losses[0]:
        return failed("the student's loss did not fall", seen, wanted)
    if not student.scores["accuracy"] >= setup.spec.score:
        return failed(f"the student's accuracy is {student.scores['accuracy']:.4g}", seen, wanted)
    if not taught <= NEARER * untaught:
        return failed(
            "the student is no nearer to its teacher than one trained alone", seen, wanted
        )
    return passed(seen, wanted)


def divergence(teacher: Run, student: Run) -> float:
    """Compute the mean Kullback-Leibler divergence of two models' answers to unseen pictures."""
    wanted, said = teacher.learner.answers().outputs, student.learner.answers().outputs
    parts = [divergence_of(one, other) for one, other in zip(wanted, said, strict=True)]
    return math.fsum(parts) / len(parts)


def divergence_of(wanted: Sequence[float], said: Sequence[float]) -> float:
    """Compute the divergence from one row of probabilities to another."""
    return math.fsum(
        p * math.log(p / max(q, TINY)) for p, q in zip(wanted, said, strict=True) if p > TINY
    )


def check_quantization(framework: str, teacher: Run, setup: Setup) -> Outcome:
    """Check that int8 weights take a quarter of the size and cost hardly any right answer."""
    student: Any = distilled(framework, teacher, setup).learner
    try:
        before, after, answers = _quantize(framework)(student)
    except NotHereError as missing:
        return skipped(str(missing))
    accuracy = score(setup.spec.task, student.answers())["accuracy"]
    seen = {
        "float32": {"bytes": before, "accuracy": accuracy},
        "int8": {"bytes": after, "accuracy": score(setup.spec.task, answers)["accuracy"]},
    }
    wanted = {"accuracy_lost_at_most": LOST, "size_at_most": SMALLER}
    if not 0 < after <= SMALLER * before:
        return failed("the int8 model is not a quarter of the float32 model's size", seen, wanted)
    if answers.outputs == student.answers().outputs:
        return failed("the int8 model answers to the last bit as the float32 model does", seen)
    if not seen["int8"]["accuracy"] >= accuracy - LOST:
        return failed("the int8 model answers worse than the float32 model", seen, wanted)
    return passed(seen, wanted)


def distilled(framework: str, teacher: Run, setup: Setup) -> Run:
    """Train a student of `teacher`; both see the same pictures in the same order."""
    wise: Any = teacher.learner
    answers = wise.outputs(wise.train_data[0])
    make: Any = learner_of(framework)
    return train(lambda each: make(each, answers), setup)


def _quantize(framework: str) -> Any:
    side = "keras" if framework == "tensorflow" else "torch"
    return importlib.import_module(f"{__package__}.int8_{side}").quantize
