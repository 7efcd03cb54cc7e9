"""Results on stdout."""

from __future__ import annotations

import ast
import inspect
import io
import json
from pathlib import Path

import pytest

from wheelyard.console.table import show_json, show_json_list, show_table


def test_table_is_aligned_and_never_cut() -> None:
    out = io.StringIO()
    show_table(["id", "cuda"], [["x" * 200, "12.1"], ["short", 11]], out)
    lines = out.getvalue().splitlines()
    assert lines[0] == f"{'id':<200}  cuda"
    assert lines[1] == f"{'x' * 200}  12.1"
    assert lines[2] == f"{'short':<200}  11"


def test_table_without_rows() -> None:
    out = io.StringIO()
    show_table(["id"], [], out)
    assert out.getvalue() == "id\n"


def test_json_keeps_order_and_letters() -> None:
    out = io.StringIO()
    show_json({"b": "é", "a": 1}, out)
    assert list(json.loads(out.getvalue())) == ["b", "a"]
    assert "é" in out.getvalue()


@pytest.mark.parametrize("values", [[], [1], [{"a": ["x\ny", {}], "b": []}, "é\x7f", None]])
def test_a_list_piece_by_piece_is_the_list(values: list[object]) -> None:
    whole, pieces = io.StringIO(), io.StringIO()
    show_json(values, whole)
    show_json_list(iter(values), pieces)
    assert pieces.getvalue() == whole.getvalue()


def test_json_for_a_stream_without_letters() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show_json_list(["é"], out)
    out.seek(0)
    assert json.loads(out.read()) == ["é"]


@pytest.mark.parametrize("room", [70, 80, 120, 160, 200])
def test_columns_that_are_wrapped_share_what_short_ones_leave(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", str(room))
    out = Terminal()
    rows = [("build", "cache /srv/" + "folder/" * 9, "wrong", "word " * 30, "do " * 40),
            ("run", "b", "ok", "c", "")]  # fmt: skip
    show_table(("for", "what", "state", "seen", "fix"), rows, out, fold=(1, 3, 4))
    assert max(map(len, out.getvalue().splitlines())) <= room
    assert out.getvalue().split().count("do") == 40


def test_every_column_of_every_table_has_a_name() -> None:
    """A narrow terminal names the columns that it has no room for."""
    commands = Path(inspect.getfile(show_table)).parents[1] / "commands"
    headers = [
        (path.name, call.args[0])
        for path in sorted(commands.glob("*.py"))
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "show_table"
    ]
    assert len(headers) > 15
    for name, header in headers:
        words = [node.value for node in ast.walk(header) if isinstance(node, ast.Constant)]
        assert "" not in words, name
