"""Magnitude pruning: the smaller half of a trained model's weights is set to zero."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from ..result import Outcome, failed, passed
from ..training.learner import Setup
from ..training.run import score, train
from ..training.sides import learner_of

SHARE = 0.5  # of the weights
LOST = 0.05  # accuracy that it may cost


def check_pruning(framework: str, setup: Setup) -> Outcome:
    """Check that the smaller half of the weights is zero, and the answers stay nearly the same."""
    run = train(learner_of(framework), setup)
    parts: list[tuple[list[float], list[float]]] = _side(framework)(run.learner, SHARE)
    before = run.scores["accuracy"]
    after = score(setup.spec.task, run.learner.answers())["accuracy"]
    seen = {"accuracy": before, "pruned": after, "weights": sum(len(old) for old, _ in parts)}
    for old, new in parts:
        if problem := fault(old, new):
            return failed(problem, seen)
    if not parts or not after >= before - LOST:
        return failed("the pruned model answers worse", seen, {"accuracy_lost_at_most": LOST})
    return passed(seen, {"accuracy_lost_at_most": LOST})


def fault(old: Sequence[float], new: Sequence[float]) -> str | None:
    """Say what is wrong with one layer's weights after pruning; None where nothing is."""
    gone = [abs(was) for was, now in zip(old, new, strict=True) if now == 0]
    kept = [(was, now) for was, now in zip(old, new, strict=True) if now != 0]
    if len(gone) != round(SHARE * len(old)):
        return f"{len(gone)} of {len(old)} weights are zero, not half of them"
    if any(was != now for was, now in kept):
        return "pruning changes weights that it keeps"
    if max(gone) > min(abs(was) for was, _ in kept):
        return "pruning takes larger weights than it keeps"
    return None


def _side(framework: str) -> Any:
    side = "keras" if framework == "tensorflow" else "torch"
    return importlib.import_module(f"{__package__}.pruning_{side}").prune
