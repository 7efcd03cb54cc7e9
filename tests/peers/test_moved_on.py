"""Debian has moved on: a mirror that has dropped a package, a registry and a snapshot beside it."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from tiny import Tiny, put_wheel, write_lock

from tests.image.layout import read_built
from tests.peers.command import wheelyard
from tests.peers.project import LEAN, lend_packages, small_wheels, write_matrix
from tests.peers.registries import registry
from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.errors import FetchError
from wheelyard.fetching.wanted import place
from wheelyard.images.assemble.base import source_date
from wheelyard.lock.packages import read_package_lock
from wheelyard.lock.snapshots import snapshot_ids
from wheelyard.model import PackageLock
from wheelyard.planning.plan import load_plan
from wheelyard.settings import load_settings
from wheelyard.system.storage import link_or_copy

pytestmark = pytest.mark.usefixtures("need_root", "at_nobodys_home")

BASE = "Debian bookworm, bookworm-"
RUNTIME, DEVEL = f"{BASE}runtime", f"{BASE}devel, difference"
DROPPED, OF_DEVEL = "tini", "patch"  # packages


class _Handler(http.server.SimpleHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@dataclass
class Server:
    """A folder over HTTP on loopback, and what was asked for."""

    folder: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    handler = type("Handler", (_Handler,), {"asked": server.asked})
    running = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(handler, directory=str(folder))
    )
    server.url = f"http://127.0.0.1:{running.server_port}"
    thread = threading.Thread(target=running.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


@dataclass
class Made:
    """A project of two images on a real base, built and recorded before Debian moved on."""

    folder: Path
    tiny: Tiny
    digests: set[str]
    locks: Mapping[str, PackageLock]  # by flavour

    @property
    def debs(self) -> dict[str, Path]:
        """What is in the pools, by archive and path."""
        files = self.folder / "cache/files"
        return {
            f"{d.archive}/{d.path}": place(files, d.sha256, d.path.rpartition("/")[2])
            for lock in self.locks.values()
            for d in lock.packages
        }

    def run(
        self, cache: Path, *words: str | Path, env: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        given = [*words, "--project", self.tiny.folder, "--cache-dir", cache]
        done = wheelyard(given, self.folder, env, timeout=900)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, need: Callable[..., None]) -> Iterator[Made]:
    """Locked and built with Debian's real archives."""
    need("mmdebstrap", "apt-get", "gpgv", "dpkg-deb", "docker-registry")
    folder = tmp_path_factory.mktemp("moved-on")
    project = folder / "project"
    write_matrix(project, LEAN)
    matrix: dict[str, Any] = yaml.safe_load((project / "matrix.yaml").read_text())
    matrix["axes"]["flavour"].append("devel")
    matrix["flavours"]["devel"] = {
        "description": "larger", "extends": "runtime", "packages": [OF_DEVEL], "tools": [],
    }  # fmt: skip
    (project / "matrix.yaml").write_text(yaml.safe_dump(matrix))
    plan = load_plan(project)
    settings = load_settings({"project": str(project), "cache_dir": str(folder / "cache")}, {})
    wheels = small_wheels(folder / "wheels")
    tiny = Tiny(project, Context(settings, QuietReporter(None)), plan, wheels)
    for cell in plan.cells:
        write_lock(tiny, cell, list(wheels.values()))
    for path in wheels.values():
        put_wheel(settings.cache_dir, path)
    made = Made(folder, tiny, set(), {})
    code, _, said = made.run(settings.cache_dir, "lock", "--bases-only")
    assert code == 0, said
    made.locks = {c.flavour.name: read_package_lock(project / c.base_lock) for c in plan.cells}
    lend_packages(made.locks["devel"], settings.cache_dir)  # the lower flavour's are among them
    for words in (["build", "all", "--no-load"], ["layers", "record", "all"]):
        code, _, said = made.run(settings.cache_dir, *words, "--output", folder / "dist")
        assert code == 0, said
    made.digests = {image.digest for image in read_built(folder / "dist")}
    yield made
    shutil.rmtree(folder)


@dataclass
class Beside:
    """A mirror that may have dropped packages, a registry with the images, and a snapshot."""

    made: Made
    folder: Path
    mirror: Server
    snapshot: Server
    registry: str

    def drop(self, *names: str) -> None:
        """Let the mirror's pool be without these packages."""
        dropped = [p for n in names for p in self.mirror.folder.rglob(f"{n}_*.deb")]
        assert len(dropped) == len(names)
        for path in dropped:
            path.unlink()

    def keep(self, moment: str) -> None:
        """Let the snapshot archive have everything, at one moment."""
        for path, file in self.made.debs.items():
            archive, _, rest = path.partition("/")
            put(file, self.snapshot.folder / archive / moment / rest)

    def build(
        self, *words: str, what: str = "all", env: Mapping[str, str] | None = None
    ) -> tuple[int, list[dict[str, Any]], str]:
        """Build with a cache that has wheels and nothing else; exit code, report, log."""
        cache = self.folder / "cache"
        for path in self.made.tiny.wheels.values():
            put_wheel(cache, path)
        given = ["build", what, "--no-load", "--json", "--output", str(self.folder / "dist")]
        mirror = ["--debian-mirror", f"{self.mirror.url}/debian"]
        code, out, said = self.made.run(cache, *given, *mirror, *words, env=env)
        return code, json.loads(out) if out else [], said

    @property
    def named(self) -> list[str]:
        return ["--registry", f"http://{self.registry}/team"]

    @property
    def pattern(self) -> str:
        return f"{self.snapshot.url}/@PATH@/@SNAPSHOTID@/"


def put(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    link_or_copy(file, target)


@pytest.fixture(scope="module")
def published(made: Made) -> Iterator[str]:
    with registry(made.folder) as address:
        given = ["--registry", f"http://{address}/team", "--output", str(made.folder / "dist")]
        code, _, said = made.run(made.folder / "cache", "push", "all", *given)
        assert code == 0, said
        yield address


@pytest.fixture
def beside(made: Made, published: str, tmp_path: Path) -> Iterator[Beside]:
    pool, kept = tmp_path / "mirror", tmp_path / "snapshot"
    for path, file in made.debs.items():
        put(file, pool / path)
    kept.mkdir()
    with serving(pool) as mirror, serving(kept) as snapshot:
        yield Beside(made, tmp_path, mirror, snapshot, published)
    shutil.rmtree(tmp_path)


def bases(report: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [image["bases"] for image in report]


def same(made: Made, report: Sequence[Mapping[str, Any]]) -> bool:
    return {image["digest"] for image in report} == made.digests


def test_a_lock_states_when_the_archives_had_its_packages(made: Made) -> None:
    dates = {lock.date for lock in made.locks.values()}
    assert all(date and re.fullmatch(r"20\d{6}T\d{6}Z", date) for date in dates)
    before = {p: p.read_bytes() for p in made.tiny.folder.glob("images/bases/*.lock")}
    older = {p: re.sub(rb"(?m)^# date: .*", b"# date: 20200101T000000Z", x)
             for p, x in before.items()}  # fmt: skip
    for path, data in older.items():
        path.write_bytes(data)
    code, _, said = made.run(made.folder / "cache", "lock", "--bases-only")
    assert code == 0, said
    assert {path: path.read_bytes() for path in before} == older  # the same packages: not touched
    for path, data in before.items():
        path.write_bytes(data)


def test_from_the_registry(beside: Beside) -> None:
    """Also the devel image's difference; mmdebstrap makes nothing, the snapshot is not asked."""
    beside.drop(DROPPED)
    beside.keep(snapshot_ids(beside.made.locks["runtime"], None)[0])
    code, report, said = beside.build(*beside.named, "--debian-snapshot", beside.pattern)
    assert code == 0, said
    assert same(beside.made, report)
    assert bases(report) == [{RUNTIME: "registry"}, {RUNTIME: "cache", DEVEL: "registry"}]
    assert re.search(rf"{RUNTIME}: the layer, from the registry \(mirror: has dropped 1 of", said)
    assert beside.snapshot.asked == []
    assert "base bookworm" not in said


def test_each_flavour_from_where_it_is(beside: Beside) -> None:
    """The lower layer is made of the mirror's packages, the upper one comes from the registry."""
    beside.drop(OF_DEVEL)
    code, report, said = beside.build(*beside.named)
    assert code == 0, said
    assert same(beside.made, report)
    assert bases(report) == [{RUNTIME: "mirror"}, {RUNTIME: "cache", DEVEL: "registry"}]


def test_from_a_snapshot_that_apt_names(beside: Beside) -> None:
    """The registry's blob is damaged: it is told from the layer, and the next source is asked."""
    beside.drop(DROPPED)
    lock = beside.made.locks["runtime"]
    beside.keep(snapshot_ids(lock, None)[1])
    config = beside.folder / "apt.conf"
    config.write_text(
        'Acquire::Snapshots::URI::Override::Label::Debian-Security "no";\n'
        "Acquire::Snapshots::URI::Override::Origin::Debian "
        f'"{beside.snapshot.url}/debian/@SNAPSHOTID@/";\n'
    )
    with damaged(beside):
        code, report, said = beside.build(
            *beside.named, what="runtime", env={"APT_CONFIG": str(config)}
        )
    assert code == 0, said
    assert report[0]["digest"] in beside.made.digests
    assert bases(report) == [{RUNTIME: "snapshot"}]
    path = next(quote(deb.path) for deb in lock.packages if deb.name == DROPPED)
    first, second = snapshot_ids(lock, None)[:2]
    assert beside.snapshot.asked == [f"/debian/{first}/{path}", f"/debian/{second}/{path}"]
    assert re.search(rf"{RUNTIME}: 1 of \d+ packages, from a snapshot", said)


@contextmanager
def damaged(beside: Beside) -> Iterator[None]:
    """Blobs in the registry's folder as a failing disk would leave them."""
    blobs = list((beside.made.folder / "registry").rglob("blobs/sha256/*/*/data"))
    assert blobs
    before = {path: path.read_bytes() for path in blobs}
    for path, data in before.items():
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    try:
        yield
    finally:
        for path, data in before.items():
            path.write_bytes(data)


def test_a_lock_without_a_date_and_a_snapshot_by_option(beside: Beside) -> None:
    """Days after the newest package at hand was built are tried, one after the other."""
    beside.drop(DROPPED)
    paths = list(beside.made.tiny.folder.glob("images/bases/*.lock"))
    before = {path: path.read_bytes() for path in paths}
    for path, data in before.items():
        path.write_bytes(re.sub(rb"(?m)^# date: .*\n", b"", data))
    others = [p for x, p in beside.made.debs.items() if f"/{DROPPED}_" not in x]
    lean = {deb.sha256 for deb in beside.made.locks["runtime"].packages}
    built = source_date([path for path in others if path.parent.name in lean])
    undated = replace(beside.made.locks["runtime"], date=None)
    beside.keep(snapshot_ids(undated, built)[2])
    try:
        code, report, said = beside.build("--debian-snapshot", beside.pattern, what="runtime")
    finally:
        for path, data in before.items():
            path.write_bytes(data)
    assert code == 0, said
    assert report[0]["digest"] in beside.made.digests
    assert bases(report) == [{RUNTIME: "snapshot"}]
    assert len(beside.snapshot.asked) == 3


def test_nobody_has_it(beside: Beside) -> None:
    """Every source is named with its reason, and so is what to do."""
    beside.drop(DROPPED)
    nowhere = ["--registry", f"http://{beside.registry}/other"]
    code, report, said = beside.build(*nowhere, "--debian-snapshot", beside.pattern)
    assert code == FetchError.exit_code
    text = report[0]["error"]
    for part in (
        f"{RUNTIME}: no source has its packages:",
        "mirror: has dropped 1 of ",
        f"registry: {beside.registry}/other lacks sha256:",
        "snapshot: could not fetch tini_",
        "wheelyard lock --bases-only",
    ):
        assert part in text, text
    assert text in said
