"""The recipe of docs/nvcc.md against the archive of today: its commands, and what they bring."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.peers.project import REPOSITORY
from wheelyard.console.progress import QuietReporter
from wheelyard.lock.apt import PackageUri, isolated_apt, print_uris
from wheelyard.lock.changes import versions
from wheelyard.lock.packages import read_package_lock
from wheelyard.lock.sources import Source, debian_sources, parse_sources
from wheelyard.settings import load_settings

PAGE = (REPOSITORY / "docs/nvcc.md").read_text()
SUITE = "trixie"
LOCK = read_package_lock(REPOSITORY / f"images/bases/{SUITE}-devel.lock")


def recipe() -> list[str]:
    """The commands of the page's RUN step, in their order."""
    found = re.search(r"^RUN ((?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
    assert found
    return [command.strip() for command in found[1].replace("\\\n", " ").split("&&")]


def command(start: str) -> str:
    (found,) = [text for text in recipe() if text.startswith(start)]
    return found


@pytest.fixture(scope="module")
def sources(need: Callable[..., None]) -> tuple[Source, ...]:
    """The image's sources.list after the page's sed."""
    need("mmdebstrap", "apt-get", "gpgv", "sed")
    settings = load_settings({"project": str(REPOSITORY)})
    given = debian_sources(SUITE, settings, QuietReporter(None))
    lines = "".join(f"deb {x.uri} {x.suite} {' '.join(x.components)}\n" for x in given)
    words = [w for w in shlex.split(command("sed ")) if w not in ("-i", "/etc/apt/sources.list")]
    text = subprocess.run(words, input=lines, capture_output=True, text=True, check=True).stdout
    changed = parse_sources(text)
    assert changed == tuple(
        replace(source, components=("main", "contrib", "non-free")) for source in given
    )
    return changed


def test_the_recipe_brings_a_compiler_and_no_driver(sources: tuple[Source, ...]) -> None:
    """On top of the packages that the image has."""
    words = shlex.split(command("apt-get install"))
    targets = [word for word in words[2:] if not word.startswith("-")]
    found = {package.name: package for package in resolve(sources, targets, driver=True)}
    assert found["nvidia-cuda-toolkit"].version.startswith("12.4.")
    assert "g++-13" in found
    assert {"libcuda1", "libnvidia-ml1"}.isdisjoint(found)
    assert {deb.name for deb in LOCK.packages} <= set(found)


def test_without_the_stand_in_it_would_bring_one(sources: tuple[Source, ...]) -> None:
    """The reason for the first half of the recipe."""
    names = {package.name for package in resolve(sources, ["nvidia-cuda-toolkit"], driver=False)}
    assert {"libcuda1", "libnvidia-ml1"} <= names


def resolve(
    sources: tuple[Source, ...], targets: list[str], *, driver: bool
) -> tuple[PackageUri, ...]:
    settings = load_settings({"project": str(REPOSITORY)})
    names = [deb.name for deb in LOCK.packages]
    with isolated_apt(sources, settings, QuietReporter(None)) as apt:
        if driver:
            status = "Status: install ok installed\n"
            (apt.folder / "status").write_text(control() + status)
        return print_uris(apt, (*names, *targets), versions(LOCK))


def control() -> str:
    """What the recipe's printf writes."""
    words = shlex.split(command("printf"))
    return "".join(f"{word}\n" for word in words[2 : words.index(">")])


def test_the_stand_in_is_a_package(tmp_path: Path, need: Callable[..., None]) -> None:
    need("dpkg-deb")
    (tmp_path / "driver/DEBIAN").mkdir(parents=True)
    (tmp_path / "driver/DEBIAN/control").write_text(control())
    argv = [word.replace("/tmp", str(tmp_path)) for word in shlex.split(command("dpkg-deb"))]
    subprocess.run(argv, check=True, capture_output=True)
    shown = subprocess.run(
        ["dpkg-deb", "--field", str(tmp_path / "driver.deb"), "Provides"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert shown.stdout.strip() == "libcuda.so.1 (= 999), libnvidia-ml.so.1 (= 999)"
