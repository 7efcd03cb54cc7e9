"""The list of tests/mutations fits today's selfcheck; `make test-mutations` runs it."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.mutations.mutants import MUTANTS, SELFCHECK, Mutant, StaleError
from wheelyard.selfcheck.train import NAMES

UNIT = Path(__file__).parent


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_every_fault_can_be_made(mutant: Mutant) -> None:
    """And what comes of it is still Python."""
    text = (SELFCHECK / mutant.file).read_text()
    changed = mutant.applied(text)
    assert changed != text
    ast.parse(changed)
    if not mutant.in_image:
        file, _, test = mutant.seen_by.partition("::")
        assert f"def {test}" in (UNIT / file).read_text()
    elif mutant.seen_by.startswith("train."):
        assert mutant.seen_by.split(".")[1] in NAMES


def test_the_list_is_long_and_of_every_kind() -> None:
    kinds = Counter(mutant.kind for mutant in MUTANTS)
    assert len(MUTANTS) >= 60
    assert set(kinds) == {"math", "training", "metrics", "timing", "judgement", "skipping"}
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.framework for mutant in MUTANTS if mutant.in_image} == {
        "pytorch", "tensorflow", "jax",
    }  # fmt: skip


def test_a_snippet_that_is_gone_or_there_twice_is_told() -> None:
    mutant = MUTANTS[0]
    for text in ("", mutant.old * 2):
        with pytest.raises(StaleError, match="not once"):
            mutant.applied(text)
