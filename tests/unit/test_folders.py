"""Inspection names the layer that would let an engine make a folder anew over the right one."""

from __future__ import annotations

from pathlib import Path

from wheelyard.images.inspect.tree import LayerContents, folder_problems
from wheelyard.layers.toc import Entry

VENV = "opt/venv"
OPT = Entry("opt", "dir", 0o755, 0, 0)
OURS = Entry(VENV, "dir", 0o2775, 0, 900)
ROOTS = Entry(VENV, "dir", 0o755, 0, 0)
FILE = Entry(f"{VENV}/a", "file", 0o664, 0, 900)
STATUS = [Entry(path, "dir", 0o755, 0, 0) for path in ("var", "var/lib", "var/lib/dpkg")]
STATUS.append(Entry("var/lib/dpkg/status", "file", 0o644, 0, 0))


def problems(*layers: list[Entry]) -> list[str]:
    named = [
        LayerContents(Path(), entries, f"layer {at}", False) for at, entries in enumerate(layers)
    ]
    return folder_problems(named, VENV)


def test_layers_that_hold_all_folders_as_they_are_below_are_right() -> None:
    assert problems([OPT, OURS], [OPT, OURS, FILE]) == []


def test_every_missing_folder_is_named() -> None:
    assert problems([OPT, OURS], [FILE]) == [
        "layer 1: /opt is missing",
        "layer 1: /opt/venv is missing",
    ]
    assert problems([OPT, OURS], [OURS, FILE]) == ["layer 1: /opt is missing"]


def test_a_folder_that_differs_is_named_with_both() -> None:
    seen = problems([OPT, OURS], [OPT, ROOTS, FILE])
    assert seen == ["layer 1: /opt/venv is 0:0 755, and 0:900 2775 below it"]


def test_what_debian_packages_change_is_meant() -> None:
    assert problems([OPT, OURS], [OPT, ROOTS, *STATUS]) == []


def test_somebody_else_s_layers_are_theirs() -> None:
    """A registry's image below the contract; the contract itself may change its folders."""
    theirs = [Entry("opt", "dir", 0o700, 0, 0), Entry("usr/bin/python3", "file", 0o755, 0, 0)]
    assert problems(theirs, [OPT, OURS], [OPT, OURS, FILE]) == []
    assert problems(theirs, [OURS]) == ["layer 1: /opt is missing"]
