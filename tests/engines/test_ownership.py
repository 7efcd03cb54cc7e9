"""Owners and modes in an engine are those of the layers, the compiler's links and all above them.

Docker's classic store and podman unpack every layer by itself: a folder that one leaves out would
be root's there. The image is tiny and nothing of it is run; its export says what it is.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny import make_tiny, put_wheel, write_lock
from wheels import make_wheel

from tests.engines.daemons import Engine, temporary_folder
from tests.engines.podman import Storage
from tests.image.layout import read_built
from tests.image.loadable import loadable
from tests.needs import need_to_be_root, need_tools
from wheelyard.console.progress import QuietReporter
from wheelyard.engines.load import load
from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.build.build import build_images, read_tree
from wheelyard.images.build.results import Built

NVCC = {
    "nvidia/cu13/bin/nvcc": b"\x7fELF",
    "nvidia/cu13/lib/libnvvm.so.4": b"\x7fELF",
    "nvidia/cu13/include/deep/er/x.h": b"",
}
Attributes = tuple[str, int, int, int]  # kind, mode, owner, group


@dataclass(frozen=True)
class DevelImage:
    """A tiny image with CUDA 13's compiler, and what its layers say it holds."""

    dist: Path
    wanted: dict[str, Attributes]


@pytest.fixture(scope="module")
def devel(tmp_path_factory: pytest.TempPathFactory) -> DevelImage:
    folder = tmp_path_factory.mktemp("devel")
    tiny = make_tiny(folder / "tiny")
    cell = tiny.cell("devel")
    nvcc = make_wheel(folder, "nvidia_cuda_nvcc", "13.2.51", NVCC)
    put_wheel(tiny.context.settings.cache_dir, nvcc)
    write_lock(tiny, cell, [*tiny.wheels.values(), nvcc])
    (built,) = build_images([cell], tiny.plan, folder / "dist", tiny.context)
    assert isinstance(built, Built), built
    tree = read_tree(built.image, LayerStore(tiny.context.settings.cache_dir))
    modes = {"symlink": 0o777}  # no file system keeps another one
    wanted = {x.path: (x.kind, modes.get(x.kind, x.mode), x.uid, x.gid) for x in tree}
    assert wanted["usr/local/cuda"][0] == "symlink"
    return DevelImage(folder / "dist", wanted)


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    need_to_be_root()
    need_tools("podman", "runc", "skopeo", "unshare", "setpriv")
    with temporary_folder() as folder, temporary_folder() as state:
        yield Storage(folder, state)


def exported(tar: Path) -> dict[str, Attributes]:
    with tarfile.open(tar) as archive:
        return {x.name: (kind_of(x), x.mode & 0o7777, x.uid, x.gid) for x in archive}


def kind_of(info: tarfile.TarInfo) -> str:
    return "dir" if info.isdir() else "symlink" if info.issym() else "file"


def assert_as_in_the_layers(seen: dict[str, Attributes], devel: DevelImage) -> None:
    inside = {path for path in devel.wanted if f"{path}/".startswith("opt/venv/")}
    assert any(path.endswith("nvidia/cu13/include/deep") for path in inside)
    assert inside <= seen.keys()
    ours = devel.wanted.keys() & seen.keys() - {"etc/hostname"}
    wrong = {path: seen[path] for path in ours if seen[path] != devel.wanted[path]}
    assert wrong == {}


def test_in_docker(engine: Engine, devel: DevelImage, tmp_path: Path) -> None:
    (image,) = (loadable(image) for image in read_built(devel.dist))
    load(engine.client, devel.dist / "blobs/sha256", [image], QuietReporter(None))
    container = engine.client.containers.create(image.tags[0], ["/none"])
    try:
        chunks: Any = container.export()  # bytes, whatever the stubs say
        with (tmp_path / "tar").open("wb") as tar:
            tar.writelines(chunks)
    finally:
        container.remove()
    assert_as_in_the_layers(exported(tmp_path / "tar"), devel)


def test_in_podman(storage: Storage, devel: DevelImage, tmp_path: Path) -> None:
    (image,) = read_built(devel.dist)
    name = storage.take(devel.dist, image.tags[0])
    container = storage.podman("create", "--network=none", name, "/none").strip()
    storage.podman("export", "--output", tmp_path / "tar", container)
    assert_as_in_the_layers(exported(tmp_path / "tar"), devel)
