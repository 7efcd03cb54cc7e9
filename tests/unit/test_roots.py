"""A base that is kept as its layer serves as the tar did that it was made of."""

import subprocess
from pathlib import Path

import pytest
from tiny import PYTHON, make_tiny, store_base, write_root

from wheelyard.errors import BaseImageError, WheelError
from wheelyard.images.assemble import interpreter
from wheelyard.images.assemble.bytecode import Module, compile_wheel
from wheelyard.images.assemble.interpreter import unpack_interpreter
from wheelyard.images.assemble.roots import RootLayer
from wheelyard.images.assemble.store import LayerStore
from wheelyard.lock.stages import load_stages


def test_the_difference_to_a_layer_is_the_difference_to_its_tar(tmp_path: Path) -> None:
    tiny, store = make_tiny(tmp_path / "tiny"), LayerStore(tmp_path / "store")
    stages = load_stages(tiny.cell("devel"), tiny.plan, tiny.folder)
    runtime, devel = (write_root(stage, tmp_path) for stage in stages)
    below = store_base(store, stages[:1], [runtime])
    expected = store_base(store, stages, [runtime, devel])
    runtime.tar.unlink()
    kept = RootLayer(below.path, store.scratch())
    assert store_base(store, stages, [kept, devel]).layer == expected.layer
    paths = {entry.path for entry in store.entries(expected.layer)}
    assert {"usr/bin/git", "etc/group"} <= paths
    assert not paths & {"etc/passwd", "etc/profile.d/10-venv.sh", "opt/venv/bin/activate"}
    assert not kept.scratch.exists()


def test_a_file_too_big_for_a_python_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = make_tiny(tmp_path / "tiny")
    root = write_root(load_stages(tiny.cell("runtime"), tiny.plan, tiny.folder)[0], tmp_path)
    monkeypatch.setattr(interpreter, "LARGEST", 1000)
    with pytest.raises(BaseImageError, match="too large for a part of Python"):
        unpack_interpreter(root, "x", PYTHON, tmp_path / "cache")
    assert not (tmp_path / "cache" / "x").exists()


def test_the_interpreter_out_of_a_layer_is_the_one_out_of_its_tar(tmp_path: Path) -> None:
    tiny, store = make_tiny(tmp_path / "tiny"), LayerStore(tmp_path / "store")
    (stage,) = load_stages(tiny.cell("runtime"), tiny.plan, tiny.folder)
    root = write_root(stage, tmp_path)
    kept = RootLayer(store_base(store, [stage], [root]).path, store.scratch())
    trees = []
    for name, source in (("tar", root), ("layer", kept)):
        folder = unpack_interpreter(source, "x", PYTHON, tmp_path / name).root
        trees.append(
            {
                str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime)
                for path in folder.rglob("*")
                if path.is_file()
            }
        )
    assert trees[0] == trees[1]
    assert f"usr/bin/python{PYTHON}" in trees[0]


def test_nothing_of_the_unpacked_interpreter_is_found_through_this_machine(tmp_path: Path) -> None:
    """Its loader is an absolute link, as in Debian's; followed from here it is this machine's."""
    tiny = make_tiny(tmp_path / "tiny")
    (stage,) = load_stages(tiny.cell("runtime"), tiny.plan, tiny.folder)
    # A colon in the cache's path would end the loader's search path there.
    python = unpack_interpreter(write_root(stage, tmp_path), "x", PYTHON, tmp_path / "a:b;c")
    links = [path for path in python.root.rglob("*") if path.is_symlink()]
    assert links
    for link in links:
        assert link.exists(), link
        assert link.resolve().is_relative_to(python.root.resolve()), link
    maps = subprocess.run(
        python.command("-c", "import zlib, _json; print(open('/proc/self/maps').read())"),
        env=python.environment(), cwd=python.root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = {line.split(maxsplit=5)[5] for line in maps.stdout.splitlines() if "/" in line}
    assert [path for path in files if not path.startswith(f"{python.root}/")] == []
    assert any("ld-linux" in path for path in files)


def test_a_library_of_this_machine_in_the_image_s_python_ends_the_build(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path / "tiny")
    (stage,) = load_stages(tiny.cell("runtime"), tiny.plan, tiny.folder)
    python = unpack_interpreter(write_root(stage, tmp_path), "x", PYTHON, tmp_path / "cache")
    (missing,) = python.root.glob("lib/x86_64-linux-gnu/libz.so*")
    missing.unlink()  # which the loader then finds in the folders that it was built with
    module = Module("pip/__init__.py", "opt/x.py", 0)
    with pytest.raises(WheelError, match=r"took this machine's .*libz.so"):
        list(compile_wheel(tiny.wheels["pip"], [module], python, tmp_path / "out"))
