"""What turns the compiler's wheels into a toolkit."""

from __future__ import annotations

from pathlib import Path

import pytest

from wheelyard.contract.compiler import compiler_links, has_compiler
from wheelyard.images.assemble.final_layer import final_layer_key, write_final_layer
from wheelyard.layers import toc
from wheelyard.model import LockedWheel

SITE = "opt/venv/lib/python3.13/site-packages"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("nvidia-cuda-nvcc", True), ("nvidia-cuda-nvcc-cu12", False), ("nvidia-nvvm", False)],
)
def test_only_cuda_13s_wheel_is_a_compiler(name: str, expected: bool) -> None:
    assert has_compiler([LockedWheel(name, "1", "x.whl", "0" * 64, 1)]) is expected


def test_libraries_get_the_names_that_a_linker_looks_for() -> None:
    paths = [
        f"{SITE}/nvidia/cu13/lib/libcudart.so.13",
        f"{SITE}/nvidia/cu13/lib/libnvrtc-builtins.so.13.2",
        f"{SITE}/nvidia/cu13/lib/libnvrtc.alt.so.13",
        f"{SITE}/nvidia/cudnn/lib/libcudnn.so.9",
        f"{SITE}/nvidia/nvshmem/lib/libnvshmem.so",
        f"{SITE}/nvidia/nvshmem/lib/libnvshmem.so.3",
        f"{SITE}/nvidia/cu13/lib/stubs/libnvml.so.1",
        f"{SITE}/nvidia/cu13/include/x.so.1",
        f"{SITE}/torch/lib/libcaffe2_nvrtc.so.1",
    ]
    assert compiler_links(paths, SITE) == {
        f"{SITE}/nvidia/cu13/lib/libcudart.so": "libcudart.so.13",
        f"{SITE}/nvidia/cu13/lib/libnvrtc-builtins.so": "libnvrtc-builtins.so.13.2",
        f"{SITE}/nvidia/cu13/lib/libnvrtc.alt.so": "libnvrtc.alt.so.13",
        f"{SITE}/nvidia/cudnn/lib/libcudnn.so": "libcudnn.so.9",
        f"{SITE}/nvidia/cu13/lib64": "lib",
        "usr/local/cuda": f"/{SITE}/nvidia/cu13",
    }


def test_links_do_not_depend_on_the_order_of_the_paths() -> None:
    paths = [f"{SITE}/nvidia/cu13/lib/liba.so.{n}" for n in (2, 1)]
    assert compiler_links(paths, SITE) == compiler_links(paths[::-1], SITE)


def test_links_are_part_of_the_top_layer_and_of_its_key(tmp_path: Path) -> None:
    files = {"opt/wheelyard/cell.json": (b"{}", 0o644)}
    links = {"usr/local/cuda": "/x", "opt/venv/lib/a.so": "a.so.1"}
    assert final_layer_key(files, {}) != final_layer_key(files, links)
    first, second = (write_final_layer(files, links, tmp_path / name, "3.11") for name in "ab")
    assert first == second


def test_the_top_layer_holds_every_folder_above_its_links_as_wheels_layers_do(
    tmp_path: Path,
) -> None:
    files = {"opt/wheelyard/cell.json": (b"{}", 0o644), "etc/profile.d/x.sh": (b"", 0o644)}
    links = {"usr/local/cuda": "/x", f"{SITE}/nvidia/cu13/lib/a.so": "a.so.1"}
    layer = write_final_layer(files, links, tmp_path / "blob", "3.11")
    entries = toc.parse(toc.beside(tmp_path / "blob").read_text(), layer.digest)
    folders = {x.path: (x.mode, x.uid, x.gid) for x in entries if x.kind == "dir"}
    ours = [x for x in toc.parents(f"{SITE}/nvidia/cu13/lib/") if x.startswith("opt/venv")]
    others = ["etc", "etc/profile.d", "opt", "opt/wheelyard", "usr", "usr/local"]
    assert folders == {
        **dict.fromkeys(ours, (0o2775, 0, 900)),
        **dict.fromkeys(others, (0o755, 0, 0)),
    }
