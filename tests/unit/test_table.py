"""Results on stdout."""

from __future__ import annotations

import io
import json

from builder.console.table import show_json, show_table


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
