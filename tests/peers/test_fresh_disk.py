"""The benchmark's disk of its own, by the kernel, losetup and mkfs.ext4."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmark.engines.disk import describe, fresh_disk
from tests.lend import link_tree
from tests.needs import need_to_be_root, need_tools

SIZE = 64 << 20
REPOSITORY = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.benchmark.engines.disk import fresh_disk, leave_the_mounts
leave_the_mounts()
with fresh_disk(Path(sys.argv[1]), 64 << 20) as disk:
    print(disk.is_mount(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def _loop_devices() -> None:
    need_to_be_root()
    need_tools("losetup", "mkfs.ext4", "findmnt")
    if not Path("/dev/loop-control").exists():
        pytest.skip("this machine has no loop devices")


def attached(folder: Path) -> str:
    """What losetup knows of files in the folder."""
    done = subprocess.run(["losetup", "--list"], capture_output=True, text=True, check=True)
    return "".join(line for line in done.stdout.splitlines() if str(folder) in line)


def test_it_is_a_new_ext4_and_gone_afterwards(tmp_path: Path) -> None:
    with fresh_disk(tmp_path, SIZE) as disk:
        assert describe(disk).startswith("ext4 of ")
        assert disk.stat().st_dev != tmp_path.stat().st_dev
        (disk / "file").write_bytes(b"content")
        assert str(tmp_path) in attached(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert attached(tmp_path) == ""


def test_it_goes_when_the_benchmark_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), fresh_disk(tmp_path, SIZE):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    assert attached(tmp_path) == ""


def test_one_that_is_still_in_use_goes_with_its_last_user(tmp_path: Path) -> None:
    with fresh_disk(tmp_path, SIZE) as disk:
        file = (disk / "file").open("wb")
    assert list(tmp_path.iterdir()) == []
    file.close()
    assert attached(tmp_path) == ""


def test_nothing_is_left_mounted_by_a_killed_benchmark(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("True"), done.stderr
    (left,) = tmp_path.iterdir()
    assert [path.name for path in left.iterdir()] == ["disk"]
    assert not os.path.ismount(left / "disk")
    assert attached(tmp_path) == ""


def test_what_is_lent_becomes_a_copy(tmp_path: Path) -> None:
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "layer").write_bytes(b"content")
    with fresh_disk(tmp_path, SIZE) as disk:
        link_tree(tmp_path / "known", disk / "cache")
        assert (disk / "cache" / "layer").read_bytes() == b"content"
