"""What each form of selector chooses from the committed matrix."""

from __future__ import annotations

from pathlib import Path

import planning
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wheelyard.errors import SelectionError
from wheelyard.model import Plan
from wheelyard.planning.plan import make_plan
from wheelyard.planning.selector import select

WHOLE = planning.committed_plan()
# The CUDA 12.1 set alone: what a selector means is easier to read off eight images.
PLAN = Plan(
    tuple(cell for cell in WHOLE.cells if cell.cuda == "12.1" and not cell.overrides),
    WHOLE.frameworks,
    lambda: tuple(e for e in WHOLE.excluded if "cuda12.1-" in e.id and "py3.11" in e.id),
)
ALL = [cell.id for cell in PLAN.cells]
RUNTIME = "pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime"
DEVEL = "pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-devel"


def chosen(selector: str) -> list[str]:
    return [cell.id for cell in select(PLAN, selector)]


def refused(selector: str) -> str:
    with pytest.raises(SelectionError) as caught:
        select(PLAN, selector)
    return str(caught.value)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("all", ALL),
        ("cuda12.1", ALL),
        ("cuda12", ALL),
        ("pytorch", ALL),
        ("bookworm", ALL),
        (RUNTIME, [RUNTIME]),
        ("pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11", [RUNTIME]),
        ("pytorch:2.3-cuda12.1", [RUNTIME]),
        ("pytorch:2.3-devel", [DEVEL]),
        ("pytorch:2.4-devel", [ALL[-1]]),
        ("pytorch-2.3*", [RUNTIME, DEVEL]),
        ("*2.3.1*-runtime", [RUNTIME]),
        ("*-py3.1[01]-devel", ALL[1::2]),
        ("cuda12.1-cudnn8.9", ALL[:6]),
        ("cudnn9", ALL[6:]),
        ("pytorch-2.3", [RUNTIME, DEVEL]),
        ("2.3.1", [RUNTIME, DEVEL]),
        ("pytorch-devel", ALL[1::2]),
        ("devel-pytorch", ALL[1::2]),
        ("py3.11-runtime-bookworm-2.3", [RUNTIME]),
        (f"{DEVEL},2.3.1, {RUNTIME}", [RUNTIME, DEVEL]),
        ("2.4,2.1.2-devel", [ALL[1], *ALL[6:]]),
    ],
)
def test_selects(selector: str, expected: list[str]) -> None:
    assert chosen(selector) == expected


def test_the_cuda_12_1_set_is_eight_images_of_the_whole_matrix() -> None:
    pairs = [("2.1.2", "8.9"), ("2.2.2", "8.9"), ("2.3.1", "8.9"), ("2.4.1", "9.1")]
    assert [cell.id for cell in select(WHOLE, "cuda12.1")] == [
        f"pytorch-{torch}-cuda12.1-cudnn{cudnn}-py3.11-{flavour}"
        for torch, cudnn in pairs
        for flavour in ("runtime", "devel")
    ]


def test_an_image_with_a_swapped_cudnn_is_chosen_by_its_name_alone() -> None:
    swapped = "pytorch-2.3.1-cuda12.1-cudnn8.9.7-py3.11-runtime"
    assert swapped not in [cell.id for cell in select(WHOLE, "pytorch-2.3-runtime")]
    for selector in ("cuda12.1-cudnn8.9.7-runtime", swapped, "*cudnn8.9.7*-runtime"):
        assert [cell.id for cell in select(WHOLE, selector)] == [swapped]
    assert swapped in [cell.id for cell in select(WHOLE, "all")]


@pytest.mark.parametrize("selector", ["", " ", ",", "cuda12.1,", ",all", "all,,all"])
def test_an_empty_part_is_refused(selector: str) -> None:
    assert "empty part" in refused(selector)


@pytest.mark.parametrize(
    "selector",
    ["cuda12.10", "cuda1", "2.30", "cudnn8.90", "py3.1", "pytorch-2.3.1.0", "*x*", "-"],
)
def test_near_misses_select_nothing(selector: str) -> None:
    assert f"{selector!r} selects no image" in refused(selector)


@pytest.mark.parametrize("selector", ["pytorch-2.33", "pytorch-2.3.1.0", "pytorch-2.3.1-cuda12.8"])
def test_the_nearest_ids_begin_like_what_was_typed(selector: str) -> None:
    assert "nearest ids: pytorch-2.3.1-cuda12.1-" in refused(selector)


@pytest.mark.parametrize("selector", ["zzz", "banana", "torchvision-0.18"])
def test_no_id_is_near_to_a_word_that_is_like_none(selector: str) -> None:
    assert "nearest" not in refused(selector)


def test_an_unknown_word_is_answered_in_one_line_of_words() -> None:
    (known,) = [line for line in refused("zzz").splitlines() if "words that exist" in line]
    assert "pytorch, " in known
    assert known.count("cuda12") <= 1  # of versions the newest of each kind


def test_versions_are_told_in_their_order() -> None:
    with pytest.raises(SelectionError, match=r"pytorch-2\.9\.1, pytorch-2\.10\.0"):
        select(WHOLE, "pytorch-2.33")


def test_a_typo_is_answered_with_the_id_meant() -> None:
    text = refused("pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtme")
    assert text.splitlines()[1:] == [f"  did you mean {RUNTIME}?"]
    assert "did you mean pytorch?" in refused("Pytorch")


def test_a_version_that_does_not_exist_is_answered_with_those_that_do() -> None:
    (known,) = [line for line in refused("cuda12.10").splitlines() if "words that exist" in line]
    assert "cuda12.1" in known
    assert "cudnn" not in known


def test_one_bad_part_spoils_the_whole_selector() -> None:
    assert "'cuda11.8' selects no image" in refused("all,cuda11.8")


def test_an_excluded_combination_says_why() -> None:
    excluded = "pytorch-2.4.1-cuda12.1-cudnn8.9-py3.11-runtime"
    assert refused(excluded) == f"{excluded} is not an image: PyTorch 2.4.1 asks for cuDNN 9.1"
    assert "excluded: PyTorch 2.4.1 asks for cuDNN 9.1" in refused("2.4.1-cudnn8.9")


def test_a_version_belongs_to_the_framework_before_it(tmp_path: Path) -> None:
    axes = {
        "framework": ["pytorch 2.9.1 + tensorflow 2.20.0"],
        "cuda": ["12.8"],
        "cudnn": ["9.10"],
        "flavour": ["runtime"],
    }
    plan = make_plan(planning.matrix(tmp_path, axes=axes), planning.UPSTREAM)
    for selector in ("pytorch-2.9", "tensorflow-2.20", "pytorch-2.9-tensorflow-2.20", "2.20.0"):
        assert select(plan, selector) == plan.cells
    with pytest.raises(SelectionError, match=r"unknown: tensorflow-2\.9"):
        select(plan, "tensorflow-2.9")


PARTS = st.sampled_from([*ALL, "all", "2.3", "devel", "pytorch:2.4", "*runtime", "cudnn8.9"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PARTS, min_size=1, max_size=6))
def test_a_union_keeps_plan_order_without_duplicates(parts: list[str]) -> None:
    union = {name for part in parts for name in chosen(part)}
    assert chosen(",".join(parts)) == [name for name in ALL if name in union]


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet="pytorch-2.31cudaen*[]!?,: ", max_size=30))
def test_any_text_selects_something_or_is_refused(text: str) -> None:
    try:
        cells = select(PLAN, text)
    except SelectionError:
        return
    assert cells


@pytest.mark.parametrize("flavour", ["runtime", "devel", "py3.11-runtime"])
def test_words_about_no_contents_choose_images_with_another_cudnn_too(flavour: str) -> None:
    words = set(flavour.split("-"))
    wanted = [c.id for c in WHOLE.cells if words <= {c.flavour.name, f"py{c.python}"}]
    assert [cell.id for cell in select(WHOLE, flavour)] == wanted
    assert any(cell.overrides for cell in select(WHOLE, flavour))
    assert not any(cell.overrides for cell in select(WHOLE, "cuda12.1-runtime"))
