"""A whole build behind a company's mirror, in a network where nothing else can be reached."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.layout import open_layer
from tests.lend import lend_bases
from tests.peers.mirror import HOST, PASSWORD, USER
from tests.peers.project import digest_of
from tests.peers.site import (
    Result,
    Site,
    as_environment,
    as_options,
    assert_clean,
    assert_through,
)
from wheelyard.errors import FetchError
from wheelyard.planning.plan import load_plan
from wheelyard.system.storage import link_or_copy

PIECE = 1 << 22  # bytes read at a time


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty one; a build in it starts from nothing."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture
def based(site: Site, folder: Path, first: Path) -> Path:
    """A folder whose cache knows the base, and no wheel."""
    plan = load_plan(site.project)
    lend_bases(plan.cells, plan, site.project, first / "cache", folder / "cache")
    return folder


def traces(path: Path, needles: list[bytes]) -> list[bytes]:
    """Which of `needles` are in a file, or in the tar inside a layer."""
    found: set[bytes] = set()
    tail = b""
    gzipped = path.read_bytes()[:2] == b"\x1f\x8b"
    with open_layer(path) if gzipped else path.open("rb") as file:
        while piece := file.read(PIECE):
            window = tail + piece
            found |= {needle for needle in needles if needle in window}
            tail = window[-max(map(len, needles)) :]
    return sorted(found)


@pytest.fixture
def wheeled(folder: Path, first: Path) -> Path:
    """A folder whose cache knows the wheels, and no package."""
    target = folder / "wheeled"
    for wheel in first.glob("cache/files/*/*/*.whl"):
        place = target / wheel.relative_to(first)
        place.parent.mkdir(parents=True)
        link_or_copy(wheel, place)
    return target


def test_a_build_behind_a_mirror_leaves_no_trace_of_it(site: Site, first: Path) -> None:
    """Locks and Dockerfiles were written with the mirror in a config file, images with options."""
    needles = site.mirror.secrets + site.mirror.address
    files = [p for top in (first / "dist", site.project) for p in top.rglob("*") if p.is_file()]
    names = {p.name for p in files}
    assert names >= {"build.json", "index.json", "manifest.json", "requirements.lock", "Dockerfile"}
    assert {str(p): traces(p, needles) for p in files if traces(p, needles)} == {}


def test_the_environment_gives_the_same_image(site: Site, first: Path, folder: Path) -> None:
    asked = len(site.mirror.requests)
    built = site.build(folder, env=as_environment(site.settings))
    assert built.returncode == 0, built.stderr
    assert_through(site, asked)
    assert_clean(site, built)
    assert digest_of(folder / "dist") == digest_of(first / "dist")


def test_the_search_for_traces_finds_them(site: Site, tmp_path: Path) -> None:
    """A needle in a layer is found, across the pieces that are read at a time."""
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    text = b"x" * (PIECE - 3) + HOST.encode()
    plain.write_bytes(text)
    packed.write_bytes(gzip.compress(text))
    needles = site.mirror.address
    assert traces(plain, needles) == traces(packed, needles) == [HOST.encode()]


def assert_no_secrets(site: Site, *results: Result) -> None:
    for result in results:
        said = (result.stdout + result.stderr).encode()
        assert [secret for secret in site.mirror.secrets if secret in said] == []


def test_without_the_ca_the_error_names_the_option(
    site: Site, based: Path, wheeled: Path, folder: Path
) -> None:
    settings = as_options(site.mirror.settings)
    wheels, debs = site.build(based, *settings), site.build(wheeled, *settings)
    locked = site.run("lock", *settings, cache=folder / "c", project=copied(site, folder))
    for result in (wheels, debs, locked):
        assert result.returncode == FetchError.exit_code
        assert "--ca-bundle" in result.stderr
    assert_no_secrets(site, wheels, debs, locked)


def copied(site: Site, folder: Path) -> Path:
    """The project again, for a test that may change it."""
    return Path(shutil.copytree(site.project, folder / "project"))


def test_a_wrong_login_is_named_as_such(site: Site, based: Path) -> None:
    wrong = site.settings["index-url"].replace(PASSWORD, "geraten")
    result = site.build(based, *as_options({**site.settings, "index-url": wrong}))
    assert result.returncode == FetchError.exit_code
    assert "401" in result.stderr
    assert "geraten" not in result.stderr
    assert_no_secrets(site, result)


def test_an_index_that_is_down_is_named_with_what_to_do(site: Site, based: Path) -> None:
    """Stop the index: its address no longer answers."""
    down = f"https://{USER}:{PASSWORD}@{HOST}:9/simple/"
    result = site.build(based, *as_options({**site.settings, "index-url": down}))
    assert result.returncode == FetchError.exit_code
    assert "--index-url" in result.stderr
    assert_no_secrets(site, result)


def test_an_index_that_is_silent_ends_by_the_time_out(site: Site, based: Path) -> None:
    site.mirror.faults["/simple/torch/"] = ["stall"] * 20
    try:
        result = site.build(based, *as_options(site.settings), "--timeout", "1")
    finally:
        site.mirror.faults.clear()
    assert result.returncode == FetchError.exit_code
    assert "--timeout" in result.stderr
    assert_no_secrets(site, result)


def test_no_mirror_and_no_network_ends_with_what_to_do(
    site: Site, based: Path, wheeled: Path
) -> None:
    debs, wheels = site.build(wheeled), site.build(based)
    assert debs.returncode == wheels.returncode == FetchError.exit_code
    assert "--debian-mirror" in debs.stderr
    assert "--index-url" in wheels.stderr


def test_a_wheel_that_is_listed_but_gone(site: Site, based: Path) -> None:
    site.mirror.faults[".whl"] = ["404"] * 50
    try:
        result = site.build(based, *as_options(site.settings))
    finally:
        site.mirror.faults.clear()
    assert result.returncode == FetchError.exit_code
    assert re.search(r"torch-2\.3\.1.*HTTP 404", result.stderr)
    assert "wheelyard lock" in result.stderr
    assert_no_secrets(site, result)


def test_a_wheel_that_the_index_lists_no_more(site: Site, based: Path) -> None:
    site.mirror.faults["/simple/torch/"] = ["404"] * 5
    try:
        result = site.build(based, *as_options(site.settings))
    finally:
        site.mirror.faults.clear()
    assert result.returncode == FetchError.exit_code
    assert "torch" in result.stderr
    assert "wheelyard lock --upgrade" in result.stderr
    assert_no_secrets(site, result)


def test_a_package_that_the_archive_dropped(site: Site, wheeled: Path) -> None:
    site.mirror.faults[".deb"] = ["404"] * 500
    try:
        result = site.build(wheeled, *as_options(site.settings))
    finally:
        site.mirror.faults.clear()
    assert result.returncode == FetchError.exit_code
    assert "wheelyard lock --bases-only" in result.stderr
    assert "--debian-mirror" in result.stderr
    assert "snapshot" in result.stderr
    assert_no_secrets(site, result)


def test_what_is_lost_or_stalls_half_way_is_resumed(site: Site, first: Path, based: Path) -> None:
    torch = next(
        path for path in site.mirror.files if path.endswith("torch-2.3.1-py3-none-any.whl")
    )
    asked = len(site.mirror.requests)
    site.mirror.faults[torch] = ["drop", "stall"]
    try:
        result = site.build(based, *as_options(site.settings), "--timeout", "2")
    finally:
        left = site.mirror.faults.pop(torch)
    assert result.returncode == 0, result.stderr
    assert left == []
    starts = [extent for path, extent in site.mirror.requests[asked:] if path == torch]
    size = (based / "cache/files").glob("*/*/torch-*.whl").__next__().stat().st_size
    half, more = size // 2, size // 2 + (size - size // 2) // 2
    assert starts == [None, f"bytes={half}-", f"bytes={more}-"]
    assert digest_of(based / "dist") == digest_of(first / "dist")
