"""The library of layers by itself: what holds for any wheel."""

from __future__ import annotations

import ast
import gzip
import hashlib
import io
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wheels import make_wheel

import wheelyard.layers
from wheelyard.layers import toc
from wheelyard.layers.errors import LayersError, WheelError
from wheelyard.layers.install import Environment
from wheelyard.layers.layer import Layer
from wheelyard.layers.tarheader import EPOCH
from wheelyard.layers.wheels import WheelInput, write_bytecode, write_layer

NAME = st.text("abcXYZ09_-é文", min_size=1, max_size=12)
PATHS = st.lists(NAME, min_size=1, max_size=4).map("/".join)
TREES = st.dictionaries(PATHS.map(lambda path: f"demo/{path}.txt"), st.binary(max_size=3000),
                        min_size=1, max_size=8)  # fmt: skip
ENVIRONMENTS = st.builds(
    Environment, st.sampled_from(["env", "opt/venv", "srv/a/b"]), st.sampled_from(["3.11", "3.13"]),
    st.just({}), st.integers(0, 5000), st.just(0o2775), st.just(0o664), st.just(0o775),
)  # fmt: skip


def written(folder: Path, wheel: Path, environment: Environment, **more: object) -> Layer:
    inputs = [WheelInput(wheel, "demo", "1.0", hashlib.sha256(wheel.read_bytes()).hexdigest())]
    return write_layer(folder / "blob", inputs, environment, **more)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(TREES, ENVIRONMENTS, st.sampled_from([0, 8]))
def test_a_layer_holds_what_the_wheel_does(
    tree: dict[str, bytes], environment: Environment, method: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        layer = written(folder, make_wheel(folder, files=tree, method=method), environment)
        blob = (folder / "blob").read_bytes()
        tar = gzip.decompress(blob)
        assert layer.digest == f"sha256:{hashlib.sha256(blob).hexdigest()}"
        assert layer.diff_id == f"sha256:{hashlib.sha256(tar).hexdigest()}"
        assert (layer.size, layer.unpacked_size) == (len(blob), len(tar))
        entries = toc.parse(toc.beside(folder / "blob").read_text(), layer.digest)
        by_path = {entry.path: entry for entry in entries}
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            members = {member.name: member for member in archive}
            assert list(by_path) == list(members)
            for path, content in tree.items():
                place = f"{environment.site_packages}/{path}"
                assert toc.read_content(folder / "blob", by_path[place]) == content
                file = archive.extractfile(place)
                assert file is not None
                assert file.read() == content
            for member in members.values():
                inside = f"{member.name}/".startswith(f"{environment.prefix}/")
                assert member.gid == (environment.gid if inside else 0)
                assert (member.uid, member.mtime) == (0, EPOCH)
                above = member.name.rpartition("/")[0]
                assert not above or members[above].isdir()


@settings(max_examples=30, deadline=None)
@given(TREES, ENVIRONMENTS, st.booleans())
def test_a_layer_is_a_function_of_its_wheels(
    tree: dict[str, bytes], environment: Environment, threaded: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = make_wheel(folder, files=tree)
        layer = written(folder, wheel, environment)
        blob = (folder / "blob").read_bytes()
        assert written(folder, wheel, environment, threaded=threaded) == layer
        assert written(folder, wheel, environment, known=layer, threaded=threaded) == layer
        assert (folder / "blob").read_bytes() == blob


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_flipped_byte_is_noticed(data: st.DataObject) -> None:
    """Nothing but the library's own error comes of it, and no layer of the same name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = make_wheel(folder, files={"demo/a.txt": b"hello" * 99, "demo/b.txt": b"x" * 9})
        sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
        content = bytearray(wheel.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        wheel.write_bytes(content)
        where = folder / "blob", [WheelInput(wheel, "demo", "1.0", sha256)]
        with pytest.raises(LayersError):
            write_layer(*where, Environment("env", "3.11", {}))


def test_what_a_compiler_gives_is_a_layer(tmp_path: Path) -> None:
    wheel = WheelInput(make_wheel(tmp_path), "demo", "1.0")
    environment = Environment("env", "3.11", {}, 7)
    place = f"{environment.site_packages}/demo/__pycache__/__init__.cpython-311.pyc"
    where = tmp_path / "blob", [wheel, wheel], environment
    layer = write_bytecode(*where, lambda _wheel, _plan: [(place, b"code")])
    entries = toc.parse(toc.beside(tmp_path / "blob").read_text(), layer.digest)
    assert [entry.path for entry in entries if entry.kind == "file"] == [place]
    assert entries[-1].gid == 7


def test_a_damaged_blob_is_the_library_s_error(tmp_path: Path) -> None:
    layer = written(tmp_path, make_wheel(tmp_path), Environment("env", "3.11", {}))
    entries = toc.parse(toc.beside(tmp_path / "blob").read_text(), layer.digest)
    entry = next(entry for entry in entries if entry.size)
    content = bytearray((tmp_path / "blob").read_bytes())
    content[entry.offset + entry.length // 2] ^= 255
    (tmp_path / "blob").write_bytes(content)
    with pytest.raises(LayersError, match=entry.path):
        toc.read_content(tmp_path / "blob", entry)


def test_what_is_the_environment_s_own_stays(tmp_path: Path) -> None:
    wheel = WheelInput(make_wheel(tmp_path, files={"demo/a": b""}), "demo", "1.0")
    environment = Environment("env", "3.11", {"env/lib/python3.11/site-packages/demo/a": "file"})
    with pytest.raises(WheelError, match="belongs to the environment"):
        write_layer(tmp_path / "blob", [wheel], environment)


def test_the_library_imports_nothing_else_of_ours() -> None:
    folder = Path(wheelyard.layers.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wheelyard"):
                assert (node.module or "").startswith("wheelyard.layers"), path
