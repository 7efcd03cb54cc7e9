"""Metrics are scikit-learn's, and event files are what TensorBoard reads."""

from __future__ import annotations

import math
import random
import statistics
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wheelyard.selfcheck.training import metrics
from wheelyard.selfcheck.training.events import EventFile, crc32c, varint
from wheelyard.selfcheck.training.learner import Answers
from wheelyard.selfcheck.training.run import score


@pytest.fixture(scope="module")
def reference() -> Any:
    """scikit-learn's metrics; a fixture, because importing them takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sklearn import metrics as found
    return found


def labels(seed: int, kinds: int, count: int = 300) -> tuple[list[int], list[int]]:
    """Truth, and answers that are right about two times in three."""
    chance = random.Random(seed)
    truth = [chance.randrange(kinds) for _ in range(count)]
    return truth, [t if chance.random() < 0.66 else chance.randrange(kinds) for t in truth]


@pytest.mark.parametrize("kinds", [2, 3, 10])
@pytest.mark.parametrize("seed", [1, 2])
def test_scores_of_classes_are_scikit_learns(reference: Any, kinds: int, seed: int) -> None:
    truth, said = labels(seed, kinds)
    assert metrics.accuracy(truth, said) == pytest.approx(reference.accuracy_score(truth, said))
    assert metrics.recall(truth, said) == pytest.approx(
        reference.recall_score(truth, said, average="macro")
    )
    assert metrics.f1(truth, said) == pytest.approx(
        reference.f1_score(truth, said, average="macro")
    )
    assert metrics.cohen_kappa(truth, said) == pytest.approx(
        reference.cohen_kappa_score(truth, said)
    )


def test_a_class_that_is_only_answered_or_only_true_counts_as_scikit_learn_counts_it(
    reference: Any,
) -> None:
    truth, said = [0, 0, 1, 1, 3], [0, 2, 1, 1, 1]
    assert metrics.recall(truth, said) == pytest.approx(
        reference.recall_score(truth, said, average="macro", zero_division=0)
    )
    assert metrics.f1(truth, said) == pytest.approx(
        reference.f1_score(truth, said, average="macro", zero_division=0)
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=60))
def test_roc_auc_is_scikit_learns_with_ties_too(
    reference: Any, pairs: list[tuple[bool, int]]
) -> None:
    truth, scores = [yes for yes, _ in pairs], [float(score) for _, score in pairs]
    if len(set(truth)) < 2:
        assert math.isnan(metrics.roc_auc(truth, scores))
    else:
        expected = reference.roc_auc_score(truth, scores)
        assert metrics.roc_auc(truth, scores) == pytest.approx(expected)


def test_the_roc_curve_is_scikit_learns_and_its_area_the_auc(reference: Any) -> None:
    chance = random.Random(5)
    truth = [chance.random() < 0.4 for _ in range(200)]
    scores = [round(chance.random() + 0.3 * yes, 1) for yes in truth]  # with ties
    points = metrics.roc_curve(truth, scores)
    wrong, found, _ = reference.roc_curve(truth, scores, drop_intermediate=False)
    assert [point[0] for point in points] == pytest.approx(list(wrong))
    assert [point[1] for point in points] == pytest.approx(list(found))
    area = sum((right - left) * (low + high) / 2 for (left, low), (right, high) in pairwise(points))
    assert area == pytest.approx(metrics.roc_auc(truth, scores))
    assert metrics.roc_curve([True, True], [0.1, 0.2]) == []
    assert metrics.roc_curve([True, False], [0.1, math.nan]) == []


def test_roc_auc_of_classes_is_scikit_learns_one_against_the_rest(reference: Any) -> None:
    chance = random.Random(3)
    truth, _ = labels(3, 4)
    rows = [[chance.random() + (kind == label) for kind in range(4)] for label in truth]
    rows = [[value / sum(row) for value in row] for row in rows]
    assert metrics.roc_auc_of_classes(truth, rows) == pytest.approx(
        reference.roc_auc_score(truth, rows, multi_class="ovr", average="macro")
    )


def test_scores_of_numbers(reference: Any) -> None:
    chance = random.Random(4)
    truth = [chance.gauss(3, 2) for _ in range(200)]
    said = [value + chance.gauss(0, 1) for value in truth]
    assert metrics.mean_squared_error(truth, said) == pytest.approx(
        reference.mean_squared_error(truth, said)
    )
    assert metrics.root_mean_squared_error(truth, said) == pytest.approx(
        reference.root_mean_squared_error(truth, said)
    )
    assert metrics.pearson(truth, said) == pytest.approx(statistics.correlation(truth, said))


def test_what_cannot_be_scored_is_not_a_number() -> None:
    assert math.isnan(metrics.cohen_kappa([1, 1], [1, 1]))
    assert math.isnan(metrics.pearson([1.0, 1.0], [1.0, 2.0]))
    assert math.isnan(metrics.roc_auc([True, True], [0.1, 0.2]))


def test_checksums_are_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, appendix B.4
    assert crc32c(bytes(32)) == 0x8A9136AA


def test_varints_are_protocol_buffers() -> None:
    assert [varint(number) for number in (0, 1, 127, 128, 300)] == [
        b"\x00", b"\x01", b"\x7f", b"\x80\x01", b"\xac\x02",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_the_curves(tmp_path: Path) -> None:
    events = EventFile(tmp_path / "run")
    for step in (1, 2, 300):
        events.scalar("train/loss", step, 1 / step)
    events.scalar("test/accuracy", 300, 0.875)
    events.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    read = EventAccumulator(str(tmp_path / "run"))
    read.Reload()
    assert sorted(read.Tags()["scalars"]) == ["test/accuracy", "train/loss"]
    points = read.Scalars("train/loss")
    assert [point.step for point in points] == [1, 2, 300]
    assert [point.value for point in points] == pytest.approx([1, 0.5, 1 / 300])
    assert read.Scalars("test/accuracy")[0].value == 0.875


@pytest.mark.parametrize("place", [0, 1, 2])
def test_scores_that_are_no_numbers_come_to_an_end(place: int) -> None:
    """nan equals nothing, itself neither: ranking it never ended."""
    scores = [0.1, 0.2, 0.3]
    scores[place] = math.nan
    assert math.isnan(metrics.roc_auc([True, False, True], scores))
    rows = [[1 - score, score] for score in scores]
    found = score("digits", Answers(rows, [0, 1, 0], math.nan))
    assert math.isnan(found["roc_auc"])
    assert math.isnan(found["loss"])


def test_constants_have_no_correlation() -> None:
    """The mean of three 0.1 is not 0.1, and what is left of the difference is no correlation."""
    assert math.isnan(metrics.pearson([1.0, 2.0, 3.0], [0.1, 0.1, 0.1]))
    assert math.isnan(metrics.pearson([0.1, 0.1, 0.1], [1.0, 2.0, 3.0]))
    assert math.isnan(score("regression", Answers([[0.1]] * 3, [1.0, 2.0, 3.0], 0.5))["pearson"])


@pytest.mark.parametrize(
    "measure",
    [metrics.accuracy, metrics.recall, metrics.f1, metrics.cohen_kappa, metrics.roc_auc,
     metrics.mean_squared_error, metrics.pearson],
)  # fmt: skip
def test_answers_that_do_not_fit_the_truth_are_refused(measure: Callable[..., float]) -> None:
    """Nothing is scored on the shorter of two lists."""
    with pytest.raises(ValueError, match="zip"):
        measure([0, 1, 1], [0, 1])
