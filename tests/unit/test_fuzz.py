"""What strangers write: the project's own errors or a result, never anything else.

The same examples every time; `tests/builds` and `make fuzz` mutate whole files.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from wheels import make_wheel

from wheelyard.contract.paths import VENV
from wheelyard.images.assemble.accounts import empty_environment
from wheelyard.layers.errors import WheelError
from wheelyard.layers.install import plan_install
from wheelyard.layers.wheel import Wheel
from wheelyard.layers.whiteout import hidden

ROOT = Path(__file__).parents[2]
repeatable = settings(max_examples=150, deadline=None, derandomize=True, database=None)


def plan(extra: dict[str, bytes | str]) -> set[str] | None:
    """Where a wheel's files go; None where it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with Wheel(make_wheel(Path(folder), extra=extra)) as wheel:
                return {
                    target.path
                    for target in plan_install(wheel, "demo", "1.0", empty_environment("3.11"))
                }
        except WheelError:
            return None


PIECES = st.sampled_from(
    ["[console_scripts]", "[gui_scripts]", "[", "]", "a", "pip", "python", ".wh.a", "..", "/", "=",
     ":", "demo", ".", " ", "\n", "#", ";", "%(a)s", "\ufeff", "\x00", "\x85", "é", ",", '"', "\r"]
)  # fmt: skip
TEXTS = st.one_of(st.binary(max_size=80), st.lists(PIECES, max_size=30).map("".join))


@repeatable
@given(TEXTS)
def test_any_entry_points(text: bytes | str) -> None:
    within(plan({"demo-1.0.dist-info/entry_points.txt": text}))


@repeatable
@given(TEXTS)
def test_any_record(text: bytes | str) -> None:
    within(plan({"demo-1.0.dist-info/RECORD": text}))


@repeatable
@given(st.lists(st.sampled_from(["demo-1.0.data", "data", "scripts", "lib", "lib64", "bin", "a",
                                 "python", "..", ".", ".wh.a", "", "purelib", "RECORD",
                                 "demo-1.0.dist-info"]), min_size=1, max_size=5))  # fmt: skip
def test_any_name(parts: list[str]) -> None:
    within(plan({"/".join(parts): b"x"}))


def within(paths: set[str] | None) -> None:
    for path in paths or ():
        assert path.startswith(f"{VENV}/")
        assert ".." not in path.split("/")
        assert not any(part.startswith(".wh.") for part in path.split("/"))
        assert path not in {f"{VENV}/{name}" for name in ("bin", "lib", "lib64", "bin/python")}
        assert not any(other.startswith(f"{path}/") for other in paths or ())


NAMES = st.sampled_from(["a", "b", "ab", ".wh.a", ".wh.b", ".wh..wh..opq"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
KINDS = st.sampled_from(["dir", "file"])


@repeatable
@given(st.dictionaries(PATHS, KINDS, max_size=12), st.dictionaries(PATHS, KINDS, max_size=6))
def test_what_whiteouts_hide(below: dict[str, str], layer: dict[str, str]) -> None:
    assert set(hidden(below, layer.items())) == {
        path for path in below if any(hides(path, below, *entry) for entry in layer.items())
    }


def hides(path: str, below: dict[str, str], entry: str, kind: str) -> bool:
    """The same, said slowly: of one path, and one entry of the layer above it."""
    folder, _, name = entry.rpartition("/")
    if name == ".wh..wh..opq":
        return path.startswith(f"{folder}/" if folder else "")
    if name.startswith(".wh."):
        gone = f"{folder}/{name[4:]}" if folder else name[4:]
        return path == gone or path.startswith(f"{gone}/")
    old = below.get(entry)
    if old == "dir" and kind != "dir":
        return path == entry or path.startswith(f"{entry}/")
    return path == entry and old == "file" and kind == "dir"
