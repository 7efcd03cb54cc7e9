"""arm64 beside amd64: facts by architecture, the axis, ids, tags, locks and bases."""

from __future__ import annotations

import gzip
import json
import os
import platform
import shutil
import subprocess
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import planning
import pytest

from wheelyard.architecture import AMD64, ARCHITECTURES, ARM64, of_machine
from wheelyard.contract.constraints import environment
from wheelyard.contract.exclusions import path_rules
from wheelyard.contract.imageconfig import base_image, image_config
from wheelyard.errors import MatrixError
from wheelyard.images.assemble.base import bootstrap_command
from wheelyard.layers.toc import Entry
from wheelyard.lock.inputs import cells_by_id, package_inputs, requirements_inputs, wheel_platform
from wheelyard.model import LockedDeb, PackageLock, Plan, RequirementsLock
from wheelyard.oci.blobs import read_head
from wheelyard.planning.explain import explain
from wheelyard.planning.facts import (
    CPU,
    Upstream,
    dump_upstream,
    load_upstream,
    parse_upstream,
)
from wheelyard.planning.plan import make_plan
from wheelyard.planning.selector import select
from wheelyard.system import emulate
from wheelyard.system.emulate import REFUSED, emulated
from wheelyard.system.tools import TOOLS, missing_message


def facts() -> Upstream:
    """Give PyTorch 2.3.1 a CUDA build for arm64, and 2.4.1 one that asks for CUDA in vain."""
    known = {name: dict(releases) for name, releases in planning.UPSTREAM.items()}
    old, new = known["pytorch"]["2.3.1"], known["pytorch"]["2.4.1"]
    built = replace(old, wheel="torch-2.3.1-aarch64.whl", machine="arm64", architectures=("sm_90",))
    trap = replace(new, wheel="torch-2.4.1-aarch64.whl", machine="arm64", cuda=CPU)
    known["pytorch"]["2.3.1"] = replace(old, builds={"arm64": built})
    known["pytorch"]["2.4.1"] = replace(new, builds={"arm64": trap})
    return known


def both(folder: Path, **changes: Any) -> Plan:
    axes = {**planning.MATRIX["axes"], "architecture": ["amd64", "arm64"]}
    return make_plan(planning.matrix(folder, axes=axes, **changes), facts())


def test_arm64_adds_siblings_and_changes_nothing_of_amd64(tmp_path: Path) -> None:
    alone, together = planning.plan(tmp_path), both(tmp_path)
    kept = [cell for cell in together.cells if cell.architecture == "amd64"]
    assert [replace(cell, shared_tags=()) for cell in kept] == list(alone.cells)
    assert kept[0].shared_tags == kept[0].tags  # an index of both has them
    assert not next(cell for cell in kept if "2.4.1" in cell.id).shared_tags
    added = [cell for cell in together.cells if cell.architecture == "arm64"]
    runtime = "pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime"
    assert [cell.id for cell in added] == [
        f"{runtime}-arm64",
        f"{runtime.replace('runtime', 'devel')}-arm64",
    ]
    first = added[0]
    assert first.sibling == runtime
    assert added[1].parent == first.id
    assert first.tags[0] == "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11-arm64"
    assert "pytorch:2.3.1-arm64" in first.tags
    assert first.shared_tags == kept[0].tags
    assert str(first.base_lock) == "images/bases/bookworm-arm64-runtime.lock"
    assert base_image(first) == "wheelyard/base:bookworm-arm64-runtime"


def test_an_include_is_for_the_architectures_that_it_names(tmp_path: Path) -> None:
    entry = {
        "framework": "pytorch 2.3.1", "cuda": "12.1", "cudnn": "8.9.7", "python": "3.11",
        "base": "bookworm", "flavours": ["runtime"], "architectures": ["amd64", "arm64"],
    }  # fmt: skip
    added = both(tmp_path, include=[entry]).cells[-2:]
    assert [cell.id for cell in added] == [
        f"pytorch-2.3.1-cuda12.1-cudnn8.9.7-py3.11-runtime{end}" for end in ("", "-arm64")
    ]
    assert {cell.overrides for cell in added} == {("nvidia-cudnn-cu12==8.9.7.*",)}
    with pytest.raises(MatrixError, match=r"PyTorch 2\.4\.1 is built without CUDA on arm64"):
        both(tmp_path, include=[entry | {"framework": "pytorch 2.4.1", "cudnn": "9.1.1"}])


def test_the_page_of_all_images_names_an_architecture_in_its_sibling_s_row() -> None:
    page = (Path(__file__).parents[2] / "docs/images.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    also = {row[0].strip("| `"): row[4] for row in rows}
    shown = {tag for tag, names in also.items() if "`-arm64`" in names.split()}
    wanted = {
        c.shared_tags[0] for c in planning.committed_plan().cells if c.architecture == "arm64"
    }
    assert shown == {tag for tag in wanted if not tag.endswith("-devel")}
    assert not [tag for tag in also if tag.endswith("-arm64")]


def test_words_choose_an_architecture(tmp_path: Path) -> None:
    plan = both(tmp_path)
    assert {cell.architecture for cell in select(plan, "pytorch-2.3.1")} == {"amd64", "arm64"}
    assert {cell.architecture for cell in select(plan, "arm64")} == {"arm64"}
    assert {cell.architecture for cell in select(plan, "pytorch-amd64")} == {"amd64"}
    assert {cell.architecture for cell in select(plan, "bookworm-arm64")} == {"arm64"}


def test_a_build_that_would_not_use_its_cuda_is_named(tmp_path: Path) -> None:
    axes = {**planning.MATRIX["axes"], "architecture": ["amd64", "arm64"]}
    matrix = planning.matrix(tmp_path, axes=axes)
    told = explain(matrix, facts(), both(tmp_path), "pytorch-2.4.1-cuda12.1-arm64")
    assert "PyTorch 2.4.1 is built without CUDA on arm64" in told
    assert "asks for CUDA's libraries all the same" in told
    told = explain(matrix, facts(), both(tmp_path), "pytorch:2.3.1-arm64")
    assert "torch-2.3.1-aarch64.whl" in told
    assert "compiled for sm_90" in told


def test_the_committed_facts_have_cuda_for_arm64_from_2_11_on() -> None:
    known = load_upstream()
    builds = {v: r.builds["arm64"].cuda for v, r in known["pytorch"].items() if r.builds}
    assert {v for v, cuda in builds.items() if cuda == CPU} >= {"2.9.1", "2.10.0"}
    assert builds["2.11.0"] == "13.0"
    assert builds["2.15.0"] == "13.2"
    trap = known["tensorflow"]["2.21.0"].builds["arm64"]
    assert trap.cuda == CPU
    assert any(name.startswith("nvidia-cuda-runtime") for name in trap.requires)


def test_facts_by_architecture_survive_the_file() -> None:
    assert parse_upstream(json.loads(dump_upstream(facts()))) == facts()


def test_locks_are_of_one_architecture(tmp_path: Path) -> None:
    plan = both(tmp_path)
    cells = cells_by_id(plan.cells)
    arm = next(cell for cell in plan.cells if cell.architecture == "arm64")
    sibling = cells[arm.sibling]
    assert wheel_platform(arm.base) == "aarch64-manylinux_2_36"
    assert wheel_platform(sibling.base) == "x86_64-manylinux_2_36"
    for inputs in (requirements_inputs, package_inputs):
        assert inputs(arm, cells) != inputs(sibling, cells)


def test_what_an_image_states(tmp_path: Path) -> None:
    arm = next(cell for cell in both(tmp_path).cells if cell.architecture == "arm64")
    config = image_config(arm, RequirementsLock(arm.id, "0" * 64, ()))
    assert config.architecture == "arm64"
    assert '"architecture":"arm64"' in dict(config.labels)["wheelyard.cell"]
    assert environment("3.11", "aarch64")["platform_machine"] == "aarch64"


@pytest.mark.parametrize("name", ["arm64", "aarch64", "ARM64", "amd64", "x86_64", "AMD64"])
def test_machines_are_known_by_every_name(name: str) -> None:
    expected = ARM64 if name.lower() in ("arm64", "aarch64") else AMD64
    assert of_machine(name) is expected
    assert of_machine("riscv64") is None


def package_lock(architecture: str) -> PackageLock:
    deb = LockedDeb("apt", "3.0", architecture, "0" * 64, 1, "debian", "pool/apt.deb")
    return PackageLock("trixie", "runtime", "trixie", "0" * 64, (deb,))


def test_a_base_is_bootstrapped_for_its_architecture(tmp_path: Path) -> None:
    for name, architecture in ARCHITECTURES.items():
        lock = package_lock(name)
        command = bootstrap_command(lock, tmp_path, tmp_path / "root.tar")
        assert f"--architectures={name}" in command
        foreign = architecture.machine != platform.machine()
        assert any("check/qemu" in word for word in command) == foreign
        assert f"path-exclude=/usr/lib/{architecture.multiarch}/gprofng/*" in path_rules(lock)


@pytest.mark.skipif(os.geteuid() != 0, reason="the ids of other users are root's to map")
def test_qemu_is_registered_for_one_command_only(tmp_path: Path) -> None:
    """A program of arm64's: an ELF header that qemu is given instead of the kernel."""
    place = Path("/proc/sys/fs/binfmt_misc")
    before = sorted(path.name for path in place.iterdir())
    fake = tmp_path / "qemu"
    fake.write_text('#!/bin/sh\necho "emulates $(basename "$1")"\n')
    fake.chmod(0o755)
    program = tmp_path / "program"
    kind = b"\x02\x00" + ARM64.elf.to_bytes(2, "little")
    program.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + kind + bytes(44))
    program.chmod(0o755)
    ran = subprocess.run(
        emulated([str(program)], str(fake), ARM64.elf), capture_output=True, text=True, check=False
    )
    if ran.returncode == REFUSED:
        pytest.skip(f"this kernel has no binfmt_misc for a namespace: {ran.stderr}")
    assert ran.stdout == "emulates program\n"
    assert sorted(path.name for path in place.iterdir()) == before
    with pytest.raises(OSError, match="Exec format error"):
        subprocess.run([str(program)], check=True)


AS_NOBODY = """
mount --make-rprivate /
for kind in uid gid; do mount --bind "$1/ranges" /etc/sub$kind; done
exec setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 -I -S "$1/emulate.py" "$2"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's ranges are root's to write")
@pytest.mark.skipif(shutil.which("newuidmap") is None, reason="the package uidmap is missing")
@pytest.mark.parametrize("ranges", ["", "nobody:300000:65536\n"])
def test_an_ordinary_user_is_root_there_by_its_ranges(ranges: str) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy(emulate.__file__, folder / "emulate.py")
        (folder / "ranges").write_text(ranges)
        (folder / "qemu").write_text("#!/bin/sh\necho $(id -u) $(tr -s ' ' < /proc/self/uid_map)\n")
        kind = b"\x02\x00" + ARM64.elf.to_bytes(2, "little")
        (folder / "program").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + kind + bytes(44))
        for file in ("qemu", "program"):
            (folder / file).chmod(0o755)
        job = emulated([f"{folder}/program"], f"{folder}/qemu", ARM64.elf)[-1]
        argv = ["unshare", "--mount", "sh", "-ec", AS_NOBODY, "sh", name, job]
        ran = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    if not ranges:
        assert ran.returncode == REFUSED
        assert "/etc/subuid has no ids for nobody" in ran.stderr
    elif ran.returncode == REFUSED:
        pytest.skip(f"this kernel does not let users do it: {ran.stderr}")
    else:
        assert ran.stdout == "0 0 65534 1 1 300000 65536\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="the ids of other users are root's to map")
def test_a_qemu_that_is_missing_is_refused(tmp_path: Path) -> None:
    argv = emulated(["true"], str(tmp_path / "no-qemu"), ARM64.elf)
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ran.returncode == REFUSED
    assert "wheelyard:" in ran.stderr


def test_the_tools_name_the_package_of_qemu() -> None:
    for architecture in ARCHITECTURES.values():
        name = f"qemu-{architecture.machine}-static"
        assert "qemu-user-static" in missing_message(name, TOOLS[name])


@pytest.mark.parametrize("skip", [0, 4090, 9000])
def test_the_head_of_a_file_is_read_wherever_it_begins(tmp_path: Path, skip: int) -> None:
    """A library may begin at the end of a piece of a member that it shares with others."""
    content = b"\x7fELF" + bytes(range(200)) * 99
    packed = gzip.compress(bytes(skip) + content)
    blob = tmp_path / "blob"
    blob.write_bytes(packed)
    entry = Entry("lib.so", "file", 0o644, 0, 0, len(content), length=len(packed), skip=skip)
    assert read_head(blob, entry, 64)[:64] == content[:64]
    assert len(read_head(blob, entry, 64)) < 9000  # no more is inflated than a piece or two
    whole = replace(entry, size=3, crc=zlib.crc32(content[:3]))
    assert read_head(blob, whole, 64) == content[:3]
