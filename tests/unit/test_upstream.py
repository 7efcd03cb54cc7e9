"""Upstream facts: what fits what, and the data file they are kept in."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from wheelyard.planning.facts import (
    dump_upstream,
    load_upstream,
    make_release,
    misfit,
    newest_for,
    parse_upstream,
)
from wheelyard.versions import is_exact, leads, overlaps

FACTS = load_upstream()


@pytest.mark.parametrize(
    ("asked", "specifiers", "fits"),
    [
        ("12.1", "==12.1.105", True),
        ("12.1", "==12.10.5", False),
        ("8.9", "==8.9.2.26", True),
        ("8.9.7", "==8.9.2.26", False),
        ("8.90", "==8.9.2.26", False),
        ("12.5", "<13.0,>=12.5.82", True),
        ("12.4", "<13.0,>=12.5.82", False),
        ("12.8", "<13.0,>=12.5.82", True),
        ("13.0", "<13.0,>=12.5.82", False),
        ("13.0", "==13.0.*", True),
        ("12.5", ">12.5.82,<12.6", True),
        ("12.5", ">=12.5.82,<12.5.90", True),
        ("2.3", "~=2.3.1", True),
    ],
)
def test_overlaps(asked: str, specifiers: str, fits: bool) -> None:
    assert overlaps(asked, specifiers) is fits


def test_leads_and_is_exact() -> None:
    assert leads("8.9", "8.9.2.26")
    assert not leads("8.9", "8.90.1")
    assert [is_exact(spec) for spec in ("==1.2", "==1.*", ">=1,<2", "==1.2,<3")] == [
        True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "cuda", "cudnn"),
    [
        ("2.1.2", "12.1", "8.9.2.26"),
        ("2.2.2", "12.1", "8.9.2.26"),
        ("2.3.1", "12.1", "8.9.2.26"),
        ("2.4.1", "12.1", "9.1.0.70"),
        ("2.5.1", "12.4", "9.1.0.70"),
    ],
)
def test_committed_facts_are_those_of_the_design(version: str, cuda: str, cudnn: str) -> None:
    release = FACTS["pytorch"][version]
    assert (release.cuda, release.cudnn) == (cuda, cudnn)
    assert "3.11" in release.pythons


def test_every_committed_release_fits_itself() -> None:
    for name, releases in FACTS.items():
        for release in releases.values():
            cuda = ".".join(release.cuda.split(".")[:2])
            assert misfit(name, release, cuda, release.cudnn, release.pythons[-1]) is None
            assert all(SpecifierSet(spec) is not None for spec in release.requires.values())


def test_committed_facts_name_no_host() -> None:
    assert "/" not in dump_upstream(FACTS)


def test_newest_for_a_cuda() -> None:
    assert newest_for(FACTS["pytorch"], "12.1", "3.11") == "2.4.1"
    assert newest_for(FACTS["pytorch"], "9.0", None) is None


def test_facts_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "upstream.json"
    path.write_text(dump_upstream(FACTS), encoding="utf-8")
    assert load_upstream(path) == FACTS
    assert dump_upstream(parse_upstream({})) == "{}\n"


def test_a_release_without_cudnn_is_no_release() -> None:
    with pytest.raises(ValueError, match="does not require cuDNN"):
        make_release("1.0", "x.whl", "12.1", ["3.11"], {"triton": "==1"})


def test_every_committed_release_says_what_it_was_compiled_for() -> None:
    for releases in FACTS.values():
        for release in releases.values():
            assert len(str(release.sha256)) == 64
            assert any(item.startswith("sm_") for item in release.architectures)
