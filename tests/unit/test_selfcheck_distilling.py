"""What follows from a student's answers, from its int8 weights and from an epoch's losses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wheelyard.selfcheck.training import distilling
from wheelyard.selfcheck.training.learner import Answers
from wheelyard.selfcheck.training.run import resume

SETUP: Any = SimpleNamespace(spec=SimpleNamespace(score=0.9, task="classes"))
RIGHT, WRONG = [0.9, 0.1], [0.2, 0.8]


def run(*losses: float, accuracy: float = 0.95) -> Any:
    return SimpleNamespace(
        curve=SimpleNamespace(losses=losses), scores={"accuracy": accuracy}, learner=None
    )


@pytest.mark.parametrize(
    ("student", "taught", "reason"),
    [
        (run(2.0, 1.0), 0.69, None),
        (run(2.0, 1.0), 0.71, "no nearer to its teacher"),
        (run(2.0, 1.0), float("nan"), "no nearer to its teacher"),
        (run(1.0, 2.0), 0.1, "the student's loss did not fall"),
        (run(2.0, 1.0, accuracy=0.89), 0.1, "the student's accuracy is 0.89"),
    ],
)
def test_a_student_is_far_nearer_to_its_teacher(
    monkeypatch: pytest.MonkeyPatch, student: Any, taught: float, reason: str | None
) -> None:
    alone = run(2.0, 1.0)
    monkeypatch.setattr(distilling, "distilled", lambda *_: student)
    monkeypatch.setattr(distilling, "learner_of", lambda _framework: None)
    monkeypatch.setattr(distilling, "train", lambda *_: alone)
    monkeypatch.setattr(distilling, "figures", lambda _run: {})
    monkeypatch.setattr(distilling, "divergence", lambda _, it: 1.0 if it is alone else taught)
    outcome = distilling.check_distillation("pytorch", run(), SETUP)
    assert outcome.status == ("fail" if reason else "pass")
    assert (reason or "") in (outcome.reason or "")


@pytest.mark.parametrize(
    ("wrong", "size", "reason"),
    [
        (3, 30, None),
        (4, 30, "answers worse"),
        (3, 36, "not a quarter"),
        (3, 0, "not a quarter"),
        (0, 30, "to the last bit"),
    ],
)
def test_int8_is_small_and_answers_nearly_as_before(
    monkeypatch: pytest.MonkeyPatch, wrong: int, size: int, reason: str | None
) -> None:
    truth: list[float] = [0, 1] * 50
    whole = [RIGHT if label == 0 else WRONG for label in truth]
    small = [*(row[::-1] for row in whole[:wrong]), *whole[wrong:]]
    learner = SimpleNamespace(answers=lambda: Answers(whole, truth, 0.1))
    monkeypatch.setattr(distilling, "distilled", lambda *_: SimpleNamespace(learner=learner))
    answers = Answers(small, truth, 0.1)
    monkeypatch.setattr(distilling, "_quantize", lambda _: lambda _student: (100, size, answers))
    outcome = distilling.check_quantization("pytorch", run(), SETUP)
    assert outcome.status == ("fail" if reason else "pass")
    assert (reason or "") in (outcome.reason or "")


def test_the_loss_of_an_epoch_is_its_steps_mean(tmp_path: Path) -> None:
    steps = iter((4.0, 1.0, 1.0))
    learner: Any = SimpleNamespace(
        load=lambda _folder: None, state=dict, repeats=True, numbers=list,
        step=lambda _rows: next(steps),
    )  # fmt: skip
    split = SimpleNamespace(train=SimpleNamespace(count=30))
    setup: Any = SimpleNamespace(spec=SimpleNamespace(epochs=1, batch=10), seed=7, split=split)
    assert resume(lambda _setup: learner, setup, tmp_path, {}) == (("model", "optimizer"), 2.0)
