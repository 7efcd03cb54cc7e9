"""How good answers are, in plain Python; the definitions are scikit-learn's.

Classes are whole numbers from 0; scores of a class that neither truth nor answer names are left
out of a mean.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

Labels = Sequence[int]
Numbers = Sequence[float]


def accuracy(truth: Labels, answers: Labels) -> float:
    """Compute the share that is right."""
    return sum(a == b for a, b in zip(truth, answers, strict=True)) / len(truth)


def recall(truth: Labels, answers: Labels) -> float:
    """Compute how much of a class is found, as the mean over the classes (macro)."""
    kinds = sorted({*truth, *answers})
    hits, there = _hits(truth, answers), Counter(truth)
    return _mean([hits[kind] / there[kind] if there[kind] else 0.0 for kind in kinds])


def f1(truth: Labels, answers: Labels) -> float:
    """Compute the harmonic mean of precision and recall, as the mean over the classes."""
    kinds = sorted({*truth, *answers})
    hits, there, said = _hits(truth, answers), Counter(truth), Counter(answers)
    return _mean([2 * hits[kind] / (there[kind] + said[kind]) for kind in kinds])


def cohen_kappa(truth: Labels, answers: Labels) -> float:
    """Compute agreement beyond chance (Cohen 1960); nan when chance alone agrees on all."""
    total = len(truth)
    there, said = Counter(truth), Counter(answers)
    chance = sum(there[kind] * said[kind] for kind in there) / total**2
    return math.nan if chance == 1 else (accuracy(truth, answers) - chance) / (1 - chance)


def roc_auc(truth: Sequence[bool], scores: Numbers) -> float:
    """Compute the chance that a positive scores above a negative, ties counting half.

    nan without both, and where a score is none.
    """
    if any(map(math.isnan, scores)):
        return math.nan
    ranks = _ranks(scores)
    positive = sum(truth)
    negative = len(truth) - positive
    if not positive or not negative:
        return math.nan
    total = sum(rank for rank, yes in zip(ranks, truth, strict=True) if yes)
    return (total - positive * (positive + 1) / 2) / (positive * negative)


def roc_curve(truth: Sequence[bool], scores: Numbers) -> list[tuple[float, float]]:
    """Compute the shares of false and true positives for every threshold, from (0, 0) on.

    Empty without both kinds, and where a score is none.
    """
    positive = sum(truth)
    negative = len(truth) - positive
    if not positive or not negative or any(map(math.isnan, scores)):
        return []
    points, hits, wrong, last = [(0.0, 0.0)], 0, 0, None
    for score, yes in sorted(zip(scores, truth, strict=True), key=lambda pair: -pair[0]):
        if last is not None and score != last:
            points.append((wrong / negative, hits / positive))
        hits, wrong, last = hits + bool(yes), wrong + (not yes), score
    return [*points, (1.0, 1.0)]


def roc_auc_of_classes(truth: Labels, scores: Sequence[Numbers]) -> float:
    """Compare each class with the rest, as the mean over the classes that occur."""
    kinds = sorted(set(truth))
    return _mean(
        [roc_auc([label == kind for label in truth], [row[kind] for row in scores])
         for kind in kinds]
    )  # fmt: skip


def mean_squared_error(truth: Numbers, answers: Numbers) -> float:
    """Compute the mean of the squared differences."""
    return _mean([(a - b) ** 2 for a, b in zip(truth, answers, strict=True)])


def root_mean_squared_error(truth: Numbers, answers: Numbers) -> float:
    """Compute the root of the mean squared error, in the units of the values."""
    return math.sqrt(mean_squared_error(truth, answers))


def pearson(truth: Numbers, answers: Numbers) -> float:
    """Compute Pearson's correlation; nan when either does not vary.

    Asked of the values themselves: the mean of equal numbers may differ from them by a rounding.
    """
    if len(set(truth)) < 2 or len(set(answers)) < 2:
        return math.nan
    left, right = _centred(truth), _centred(answers)
    scale = math.sqrt(sum(a * a for a in left) * sum(b * b for b in right))
    return sum(a * b for a, b in zip(left, right, strict=True)) / scale if scale else math.nan


def _hits(truth: Labels, answers: Labels) -> Counter[int]:
    return Counter(a for a, b in zip(truth, answers, strict=True) if a == b)


def _ranks(scores: Numbers) -> list[float]:
    """Rank from 1; equal scores share the mean of their ranks."""
    order = sorted(range(len(scores)), key=scores.__getitem__)
    ranks = [0.0] * len(scores)
    start = 0
    while start < len(order):
        stop = start
        while stop < len(order) and scores[order[stop]] == scores[order[start]]:
            stop += 1
        for place in order[start:stop]:
            ranks[place] = (start + 1 + stop) / 2
        start = stop
    return ranks


def _centred(values: Numbers) -> list[float]:
    middle = _mean(values)
    return [float(value) - middle for value in values]


def _mean(values: Numbers) -> float:
    return sum(values) / len(values)
