"""Locked wheels are found again by their hash, whatever else the index has by then."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from locking import Index, make_settings, sha256
from wheels import make_wheel

from wheelyard.errors import FetchError
from wheelyard.lock.index import locate
from wheelyard.model import LockedWheel


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path / "index")


def locked(path: Path) -> LockedWheel:
    name, version = path.name.split("-")[:2]
    return LockedWheel(
        name.replace("_", "-"), version, path.name, sha256(path), path.stat().st_size
    )


def test_each_wheel_gets_its_address_in_the_locks_order(index: Index, tmp_path: Path) -> None:
    wheels = [locked(index.add(name, "1.0")) for name in ("zlib-ng", "attrs")]
    with index.serve() as url:
        found = locate(wheels, "3.11", make_settings(tmp_path, url))
    root = url.removesuffix("/simple/")
    assert [item.url for item in found] == [f"{root}/files/{w.filename}" for w in wheels]
    assert [(i.filename, i.sha256, i.size) for i in found] == [
        (w.filename, w.sha256, w.size) for w in wheels
    ]


def test_dependencies_that_the_index_lacks_do_not_matter(index: Index, tmp_path: Path) -> None:
    wheel = locked(index.add("attrs", "1.0", ["not-there==1"]))
    with index.serve() as url:
        assert len(locate([wheel], "3.11", make_settings(tmp_path, url))) == 1


def test_a_better_fitting_file_that_came_later_is_not_taken(index: Index, tmp_path: Path) -> None:
    wheel = locked(index.add("attrs", "1.0"))
    built = make_wheel(tmp_path, "attrs", "1.0", {"attrs/fast.so": b"x"})
    newer = "attrs-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    shutil.copy(built, index.folder / "files" / newer)
    with index.serve() as url:
        (found,) = locate([wheel], "3.11", make_settings(tmp_path, url))
    assert found.url.endswith(wheel.filename)


def test_a_replaced_file_is_named(index: Index, tmp_path: Path) -> None:
    wheel = replace(locked(index.add("attrs", "1.0")), sha256="7" * 64)
    with index.serve() as url, pytest.raises(FetchError, match=r"attrs-1\.0.*has another hash"):
        locate([wheel], "3.11", make_settings(tmp_path, url))


def test_a_version_that_is_gone_is_the_indexs_fault(index: Index, tmp_path: Path) -> None:
    wheel = replace(locked(index.add("attrs", "1.0")), version="2.0")
    with index.serve() as url, pytest.raises(FetchError, match=r"attrs==2\.0"):
        locate([wheel], "3.11", make_settings(tmp_path, url))


def test_no_wheels_ask_nobody(tmp_path: Path) -> None:
    assert locate([], "3.11", make_settings(tmp_path, "http://127.0.0.1:9/")) == []
