"""The record of the public projects is of the facts as they are, and the page shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmark import project as bench
from tests.projects.__main__ import ENGINES, RESULT, STEPS, facts, page_rows
from tests.projects.public import PUBLIC, Public

ROOT = Path(__file__).parents[2]


def recorded() -> dict[str, Any]:
    return dict(json.loads(RESULT.read_text(encoding="utf-8")))


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.name)
def test_every_project_was_run_as_it_is_written_down(public: Public) -> None:
    assert public.requirements == () or (STEPS / f"{public.name}.py").is_file()
    entry = recorded()[public.name]
    assert entry["requirements"] == facts(public)
    assert entry["change"] == public.change
    assert set(entry["ran"]) == set(ENGINES)


def test_the_page_shows_the_record() -> None:
    page = (ROOT / "docs/projects.md").read_text(encoding="utf-8").splitlines()
    at = page.index("## Ten of them, run")
    rows = [line for line in page[at:] if line.startswith("| ")]
    assert rows[: len(recorded()) + 1] == page_rows(recorded())


def test_the_plot_of_the_benchmark_is_of_its_numbers() -> None:
    report = json.loads(bench.RESULT.read_text(encoding="utf-8"))
    assert bench.RESULT.with_suffix(".svg").read_text(encoding="utf-8") == bench.draw(report)
