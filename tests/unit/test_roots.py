"""A base that is kept as its layer serves as the tar did that it was made of."""

from pathlib import Path

from tiny import PYTHON, make_tiny, store_base, write_root

from builder.assemble.interpreter import unpack_interpreter
from builder.assemble.roots import RootLayer
from builder.assemble.store import LayerStore
from builder.building.stages import load_stages


def test_the_difference_to_a_layer_is_the_difference_to_its_tar(tmp_path: Path) -> None:
    tiny, store = make_tiny(tmp_path / "tiny"), LayerStore(tmp_path / "store")
    stages = load_stages(tiny.cell("devel"), tiny.plan, tiny.folder)
    runtime, devel = (write_root(stage, tmp_path) for stage in stages)
    below = store_base(store, stages[:1], [runtime])
    expected = store_base(store, stages, [runtime, devel])
    runtime.tar.unlink()
    kept = RootLayer(below.path, store.scratch())
    assert store_base(store, stages, [kept, devel]).layer == expected.layer
    paths = {entry.path for entry in store.entries(expected.layer.digest)}
    assert {"usr/bin/git", "etc/group"} <= paths
    assert not paths & {"etc/passwd", "etc/profile.d/10-venv.sh", "opt/venv/bin/activate"}
    assert not kept.scratch.exists()


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
