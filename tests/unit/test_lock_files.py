"""Lock files: what is written can be read, and what was edited is noticed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wheelyard.errors import LockError
from wheelyard.lock.lockfile import read_pins, read_requirements_lock, render_requirements_lock
from wheelyard.lock.packages import read_package_lock, render_package_lock
from wheelyard.lock.sealed import read_once
from wheelyard.model import LockedDeb, LockedWheel, PackageLock, RequirementsLock

HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
NAMES = st.from_regex(r"[a-z0-9]+(-[a-z0-9]+)*", fullmatch=True)
VERSIONS = st.from_regex(r"[0-9]+(\.[0-9]+){0,3}(\+[a-z0-9]+)?", fullmatch=True)
WHEELS = st.builds(
    LockedWheel,
    name=NAMES,
    version=VERSIONS,
    filename=st.from_regex(r"[A-Za-z0-9_.+-]+\.whl", fullmatch=True),
    sha256=HEX,
    size=st.integers(0, 1 << 40),
)
LOCK = RequirementsLock(
    "pytorch-x",
    "0" * 64,
    (
        LockedWheel("numpy", "1.26.4", "numpy-1.26.4-cp311-cp311-linux_x86_64.whl", "a" * 64, 7),
        LockedWheel("torch", "2.3.1", "torch-2.3.1-cp311-cp311-linux_x86_64.whl", "b" * 64, 8),
    ),
)
PACKAGES = PackageLock(
    "bookworm",
    "runtime",
    "bookworm",
    "1" * 64,
    (LockedDeb("apt", "2.6.1", "amd64", "c" * 64, 9, "debian", "pool/main/a/apt/apt_2.6.1.deb"),),
)


def write(folder: Path, text: str) -> Path:
    path = folder / "pytorch-x" / "requirements.lock"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@settings(max_examples=40, deadline=None)
@given(st.lists(WHEELS, unique_by=lambda wheel: wheel.name), HEX)
def test_any_lock_is_read_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, wheels: list[LockedWheel], inputs: str
) -> None:
    ordered = tuple(sorted(wheels, key=lambda wheel: wheel.name))
    lock = RequirementsLock("pytorch-x", inputs, ordered)
    folder = tmp_path_factory.mktemp("lock")
    path = write(folder, render_requirements_lock(lock))
    assert read_requirements_lock(path) == lock
    for prefix in ("", "t", "nothing-"):
        wanted = {w.name: w.version for w in lock.wheels if w.name.startswith(prefix)}
        assert read_pins(path, prefix) == wanted


def test_a_lock_is_pips_own_format_with_one_hash_a_line() -> None:
    lines = render_requirements_lock(LOCK).splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins == [
        f"numpy==1.26.4 --hash=sha256:{'a' * 64}",
        f"torch==2.3.1 --hash=sha256:{'b' * 64}",
    ]


def test_packages_are_read_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "bookworm-runtime.lock"
    path.write_text(render_package_lock(PACKAGES))
    assert read_package_lock(path) == PACKAGES


def test_the_archives_date_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "bookworm-runtime.lock"
    dated = replace(PACKAGES, date="20261128T021501Z")
    path.write_text(render_package_lock(dated))
    assert read_package_lock(path) == dated
    path.write_text(path.read_text().replace("20261128T", "yesterday"))
    with pytest.raises(LockError, match=r"yesterday021501Z' is not a date.*--bases-only"):
        read_package_lock(path)


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        ("2.3.1", "2.3.2"),  # a version
        ("b{64}", "d" * 64),  # a hash
        (r"# torch.*\n.*\n", ""),  # a line gone
        (r"\Z", "evil==1.0 --hash=sha256:" + "e" * 64 + "\n"),  # a line more
        (r"# body:.*\n", ""),  # the checksum gone
        (r"(?s).*", ""),  # everything gone
    ],
)
def test_an_edited_lock_is_refused_with_the_command_that_repairs_it(
    tmp_path: Path, pattern: str, replacement: str
) -> None:
    text = re.sub(pattern, replacement, render_requirements_lock(LOCK), count=1)
    with pytest.raises(LockError, match="wheelyard lock pytorch-x"):
        read_requirements_lock(write(tmp_path, text))


def test_an_edited_package_lock_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bookworm-runtime.lock"
    path.write_text(render_package_lock(PACKAGES).replace("2.6.1", "2.6.2"))
    with pytest.raises(LockError, match="--bases-only"):
        read_package_lock(path)


def test_a_missing_lock_says_how_to_write_it(tmp_path: Path) -> None:
    with pytest.raises(LockError, match=r"does not exist.*wheelyard lock pytorch-x"):
        read_requirements_lock(tmp_path / "pytorch-x" / "requirements.lock")


def test_a_checkout_with_other_line_ends_is_still_the_same_lock(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    path.write_bytes(render_requirements_lock(LOCK).replace("\n", "\r\n").encode())
    assert read_requirements_lock(path) == LOCK


def test_the_order_of_the_wheels_does_not_change_the_file() -> None:
    shuffled = replace(LOCK, wheels=LOCK.wheels[::-1])
    assert render_requirements_lock(shuffled) == render_requirements_lock(LOCK)


def test_a_lock_is_read_once_as_long_as_nobody_writes_to_it(tmp_path: Path) -> None:
    calls: list[Path] = []

    @read_once
    def read(path: Path) -> str:
        calls.append(path)
        return path.read_text()

    file = tmp_path / "lock"
    file.write_text("one")
    assert [read(file), read(file)] == ["one", "one"]
    assert len(calls) == 1
    file.write_text("three")
    assert read(file) == "three"
    file.unlink()
    with pytest.raises(FileNotFoundError):
        read(file)
