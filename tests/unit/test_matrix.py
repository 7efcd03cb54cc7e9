"""matrix.yaml: what is accepted, and that every problem is reported where it stands."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

import planning
import pytest

from wheelyard.errors import MatrixError
from wheelyard.planning.matrix import load_matrix
from wheelyard.planning.matrix_model import json_schema
from wheelyard.planning.plan import load_plan

ROOT = Path(__file__).parents[2]


def problems(folder: Path, data: dict[str, Any] | str) -> str:
    with pytest.raises(MatrixError) as caught:
        load_matrix(planning.write(folder, data))
    return str(caught.value)


def test_committed_matrix_is_valid() -> None:
    assert load_matrix(ROOT / "matrix.yaml").axes.cuda[0] == "12.1"


def test_committed_schema_is_current() -> None:
    """Printed by `python -m wheelyard.planning.matrix_model`."""
    committed = (ROOT / "builder" / "wheelyard" / "data" / "matrix.schema.json").read_text(
        encoding="utf-8"
    )
    assert committed == json_schema()


def test_editors_find_the_schema() -> None:
    first = (ROOT / "matrix.yaml").read_text(encoding="utf-8").splitlines()[0]
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert found
    assert (ROOT / found[1]).is_file()


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "empty"),
        ("a: [1", 2, "not YAML"),
        ("a: 1\n\tb: 2", 2, "not YAML"),
        ("!!python/object:os.system x", 1, "not YAML"),
        ("a: \x01", 1, "not YAML"),
        ("- a", 1, "must be a mapping, not a list"),
        ("version: 1\naxes: &x {cuda: *x}", 2, "contains itself"),
        ("version: 1\nversion: 1", 2, "duplicate key; first defined on line 1"),
        ("? [a]\n: 1", 1, "a key must be plain text"),
        ("version: 2", 1, "version: must be 1, not 2"),
    ],
)
def test_what_is_no_matrix_at_all(tmp_path: Path, text: str, line: int, says: str) -> None:
    lines = problems(tmp_path, text).splitlines()
    assert any(found.startswith(f"matrix.yaml:{line}: ") and says in found for found in lines)


def test_missing_and_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match="no such file; run inside a Wheelyard project"):
        load_matrix(tmp_path / "matrix.yaml")
    (tmp_path / "matrix.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(MatrixError, match="UTF-8"):
        load_matrix(tmp_path / "matrix.yaml")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"axis": {}}, "axis: unknown key; did you mean axes?"),
        ({"about": {"source": "example/x"}}, "about.source"),
        ({"about": {"documentation": "https://me:secret@example"}}, "about.documentation"),
        ({"about": {"licenses": "Apache-2.0, MIT"}}, "about.licenses"),
        ({"about": {"licences": "MIT"}}, "about.licences: unknown key; did you mean licenses?"),
        ({"axes": {"cuda": [12.1]}}, 'axes.cuda[0]: write it in quotes, "12.1"'),
        ({"axes": {"cuda": ["12"]}}, "axes.cuda[0]: '12' must be a version of two components"),
        ({"axes": {"cuda": []}}, "axes.cuda: must not be empty"),
        ({"axes": {"cuda": "12.1"}}, "axes.cuda: must be a list, not the text '12.1'"),
        ({"axes": {"cuda": None}}, "axes.cuda: must be a list, not nothing"),
        ({"axes": {"framework": ["pytorch-2.3.1"]}}, "axes.framework[0]: 'pytorch-2.3.1' must"),
        ({"axes": {"framework": ["pytroch 2.3.1"]}}, "did you mean pytorch?"),
        ({"axes": {"framework": ["pytorch 2.3.1 + pytorch 2.4.1"]}}, "names a framework twice"),
        ({"axes": {"python": ["3.11", "3.11"]}}, "axes.python[1]: '3.11' is given twice"),
        ({"axes": {"cudnn": ["8.9", "8.9.2"]}}, "axes.cudnn[1]: 8.9.2 overlaps 8.9"),
        ({"axes": {"base": ["bokworm"]}}, "base 'bokworm' is not defined; did you mean bookworm?"),
        ({"axes": {"flavour": ["debug"]}}, "flavour 'debug' is not defined"),
        ({"bases": {"Book-worm": {"suite": "x", "python": "3.11"}}}, "bases.Book-worm: "),
        ({"flavours": {"a": {"description": "x", "extends": "b"}}}, "flavour 'b' is not defined"),
        (
            {
                "flavours": {
                    "a": {"description": "x", "extends": "b"},
                    "b": {"description": "x", "extends": "a"},
                }
            },
            "flavours.a.extends: extends itself: a -> b -> a",
        ),
        ({"flavours": {"bookworm": {"description": "x"}}}, "'bookworm' is also one of bases"),
        (
            {"flavours": {"latest": {"description": "x"}}},
            "is a reserved word of selectors and tags",
        ),
        ({"frameworks": {"pytorch": {"title": "PyTorch"}}}, "pytorch.distribution: is missing"),
        ({"exclude": [{"when": {}}]}, "exclude[0].reason: is missing"),
        (
            {"cuda": {"13": {"tools": {"develop": ["x"]}}}},
            "flavour 'develop' is not defined; did you",
        ),
        (
            {"policy": "newest"},
            "policy: must be 'match-build', 'upstream-latest' or 'follow-cuda', not 'newest'",
        ),
        ({"exclude": [{"when": {"os": "x"}, "reason": "y"}]}, "when.os: unknown key; known here:"),
        ({"cuda": {"12.1": {"constraint": []}}}, 'cuda."12.1".constraint: unknown key; did you'),
    ],
)
def test_each_problem_is_named(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    assert says in problems(tmp_path, planning.document(**changes))


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"distribution": "torch==2"}, "must be a name, optionally with extras"),
        ({"distribution": "a b"}, "is not a PEP 508 requirement"),
        ({"constraints": [{"when": "2.3", "require": "a", "reason": "b"}]}, "version specifier"),
        ({"constraints": [{"require": "numpy<<2", "reason": "b"}]}, "not a PEP 508 requirement"),
    ],
)
def test_requirements_are_checked(tmp_path: Path, entry: dict[str, Any], says: str) -> None:
    framework = {"title": "PyTorch", "distribution": "torch", **entry}
    assert says in problems(tmp_path, planning.document(frameworks={"pytorch": framework}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"base": "sid"}, "include[0].base: base 'sid' is not defined"),
        ({"python": "3.13"}, "include[0].python: bookworm holds Python 3.11, not 3.13"),
        ({"flavours": ["x"]}, "include[0].flavours[0]: flavour 'x' is not defined"),
        ({"flavours": ["devel", "devel"]}, "include[0].flavours[1]: 'devel' is given twice"),
        ({"architectures": ["arm64"] * 2}, "include[0].architectures[1]: 'arm64' is given twice"),
        ({"architectures": ["riscv64"]}, "'riscv64' must be an architecture: amd64 or arm64"),
        ({"framework": "jax 0.4"}, "include[0].framework: framework 'jax' is not defined"),
        ({"cudnn": 8.9}, 'include[0].cudnn: write it in quotes, "8.9"'),
    ],
)
def test_includes_are_checked(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    entry = {
        "framework": "pytorch 2.3.1",
        "cuda": "12.1",
        "cudnn": "8.9.7",
        "python": "3.11",
        "base": "bookworm",
        "flavours": ["runtime"],
        **change,
    }
    assert says in problems(tmp_path, planning.document(include=[entry]))


def test_a_framework_without_a_record_is_refused(tmp_path: Path) -> None:
    """Before anything is fetched: its image could not be inspected, nor its facts be read."""
    entry = {"title": "MXNet", "distribution": "mxnet"}
    data = planning.document(axes={"framework": ["mxnet 1.9.1"]}, frameworks={"mxnet": entry})
    told = problems(tmp_path, data)
    assert "frameworks.mxnet: Wheelyard has no record of the framework 'mxnet'" in told
    assert "known are pytorch, tensorflow, jax" in told
    assert "CONTRIBUTING.md, Add a framework" in told


def test_a_version_keeps_the_digits_it_was_written_with(tmp_path: Path) -> None:
    data = planning.document(axes={"python": ["VERSION"]})
    text = planning.write(tmp_path, data).read_text(encoding="utf-8").replace("VERSION", "3.10")
    assert 'write it in quotes, "3.10": YAML reads 3.10 as the number 3.1' in problems(
        tmp_path, text
    )


def test_all_problems_come_at_once_in_file_order(tmp_path: Path) -> None:
    """Wrong types, unknown keys, duplicates, bad references and unshipped cells, in one go."""
    shutil.copy(ROOT / "matrix.yaml", tmp_path)
    text = textwrap.dedent("""\
        version: 1
        axes:
          cuda: [12.1, "11.8"]
          cudnn: ["8.9"]
          framework: [pytorch 2.3.1, pytorch 2.5.1, pytroch 2.4.1]
          python: ["3.11"]
          base: [bookworm, trixi]
          flavour: [runtime]
        framework: {}
        frameworks:
          pytorch: {title: PyTorch, distribution: torch}
          pytorch: {title: PyTorch, distribution: torch}
        bases:
          bookworm: {suite: bookworm, python: "3.11"}
        flavours:
          runtime: {description: train, packages: gcc}
        exclude:
          - {when: {cuda: "10.0"}, reason: old}
        """)
    planning.write(tmp_path, text)
    with pytest.raises(MatrixError) as caught:
        load_plan(tmp_path)
    found = re.findall(r"^matrix.yaml:(\d+): (\S+): ", str(caught.value), re.MULTILINE)
    assert found == [
        ("3", "axes.cuda[0]"),
        ("3", "axes.cuda[1]"),
        ("5", "axes.framework[1]"),
        ("5", "axes.framework[2]"),
        ("7", "axes.base[1]"),
        ("9", "framework"),
        ("12", "frameworks.pytorch"),
        ("16", "flavours.runtime.packages"),
        ("18", "exclude[0]"),
    ]
