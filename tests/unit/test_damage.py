"""Every kind of file that cache and dist/ hold, damaged in every way: healed, or named.

The kinds are those of the table in ARCHITECTURE.md. A file that no row knows fails a test, and so
does a row that no test damages.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from locking import Index
from loopback import Server, serve
from tiny import PYTHON, Tiny, make_tiny
from tiny import locked as wheel

from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.dockerfiles.prefetched import PrefetchedFiles
from wheelyard.dockerfiles.wheelhouse import Content, open_wheelhouse
from wheelyard.errors import StorageError, WheelyardError
from wheelyard.fetching.fetch import Download, fetch_all
from wheelyard.fetching.partial import Partial
from wheelyard.fetching.wanted import part, place
from wheelyard.images.assemble.assembly import Assembly
from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.build.build import build_images
from wheelyard.images.build.report import read_report
from wheelyard.images.build.results import Built, Failed
from wheelyard.images.inputs import pinned
from wheelyard.images.inputs.network import Network
from wheelyard.images.inputs.supply import supply
from wheelyard.images.inspect.inspect import inspect_layout_image
from wheelyard.lock.index import locate
from wheelyard.lock.stages import load_stages
from wheelyard.lock.upstream import packages
from wheelyard.model import LockedDeb, PackageLock
from wheelyard.oci.address import parse_address
from wheelyard.oci.archive import ArchiveMember, stream
from wheelyard.oci.layout import Layout
from wheelyard.registry import upload
from wheelyard.registry.client import open_registry
from wheelyard.system.filelock import locked
from wheelyard.system.storage import file_digest
from wheelyard.verify.record import Record, read_record, record_path, write_record

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(
    not Path("/lib64/ld-linux-x86-64.so.2").exists(), reason="needs Linux on x86_64"
)
HEADING = "## What the cache and `dist/` hold"
DIGEST = f"sha256:{'5' * 64}"
COMMAND = re.compile(r"remove it: (rm (?:-r )?\S+)|(wheelyard (?:build|clean) \w+)")


def table() -> dict[str, list[str]]:
    """Kind -> patterns of the paths that it is found under, from ARCHITECTURE.md."""
    text = (HERE.parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text.partition(HEADING)[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|`]+) \| (`[^|]+`) \| [^|]+ \|$", section, re.MULTILINE)
    return {kind: re.findall("`([^`]+)`", patterns) for kind, patterns in rows}


KINDS = table()


def kind_of(path: str) -> str | None:
    """The first row that knows a path."""
    for kind, patterns in KINDS.items():
        for pattern in patterns:
            words = re.split(r"(\*\*|\*)", pattern)
            regex = "".join({"**": ".*", "*": "[^/]*"}.get(x, re.escape(x)) for x in words)
            if re.fullmatch(regex, path):
                return kind
    return None


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    rewrite(path, bytes(data))


def rewrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def half(path: Path) -> None:
    rewrite(path, path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    rewrite(path, b"")


def shape(path: Path) -> None:
    rewrite(path, b"[[1, 2]]")


def shape_of_object(path: Path) -> None:
    rewrite(path, b'{"layer": {"digest": 1}, "images": [1], "manifests": {"a": 1}, "version": 1}')


def deep(path: Path) -> None:
    rewrite(path, b"[" * 100_000)


def executable(path: Path) -> None:
    """One bit of a zip's directory, of which no CRC-32 tells: a member's mode."""
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 40] ^= 0o100
    rewrite(path, bytes(data))


def folder(path: Path) -> None:
    path.unlink()
    (path / "a").mkdir(parents=True)
    (path / "a/file").write_bytes(b"x")


def keeping_times(damage: Callable[[Path], None]) -> Callable[[Path], None]:
    """The same damage by somebody who sets the time of modification back."""

    def damaged(path: Path) -> None:
        before = path.stat()
        damage(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    damaged.__name__ = f"{damage.__name__}_mtime_kept"
    return damaged


BYTES = [flip, keeping_times(flip), half, empty, folder]
TEXTS = [*BYTES, keeping_times(half), shape, shape_of_object, deep]


@dataclass
class Site:
    """A project with an index of its wheels, and what is damaged again and again."""

    tiny: Tiny
    folder: Path
    expected: dict[str, str]  # tag -> digest

    @property
    def cache(self) -> Path:
        return self.tiny.context.settings.cache_dir

    @property
    def dist(self) -> Path:
        return self.folder / "dist"

    def build(self) -> list[str]:
        """Build the image; what was said of failures."""
        cell = self.tiny.cell("runtime")
        try:
            results = build_images([cell], self.tiny.plan, self.dist, self.tiny.context)
        except WheelyardError as error:
            return [str(error)]
        return [str(result.error) for result in results if isinstance(result, Failed)]

    def is_whole(self) -> bool:
        """Whether dist has the right image, and nothing in it is damaged."""
        found = {name: x.digest for name, x in Layout(self.dist).references().items()}
        blobs = (self.dist / "blobs/sha256").iterdir()
        reported = [image["digest"] for image in read_report(self.dist)]
        return (
            found == self.expected
            and set(self.expected.values()) == set(reported)
            and all(file_digest(blob) == f"sha256:{blob.name}" for blob in blobs)
        )

    def forget(self, title: str) -> None:
        """Let the layers whose title begins so be made again."""
        (image,) = read_report(self.dist)
        store = LayerStore(self.cache)
        found = [layer for layer in image["layers"] if layer["title"].startswith(title)]
        assert found
        for layer in found:
            store.forget(layer["digest"])

    def pick(self, kind: str) -> Path:
        """A file of that kind that a build makes."""
        cell = self.tiny.cell("runtime")
        content = Layout(self.dist).read_json(self.expected[cell.tags[0]])
        (image,) = read_report(self.dist)
        (torch,) = [x for x in image["layers"] if x["title"].startswith("torch ")]
        store, layout = LayerStore(self.cache), Layout(self.dist)
        records = [
            path
            for path in (self.cache / "layers").glob("*.json")
            if kind_of(f"cache/layers/{path.name}") == "key record"
            and torch["digest"] in path.read_text()
        ]
        return {
            "layer's blob": store.blob(torch["digest"]),
            "table of contents": self.cache / f"layers/{torch['digest'][7:]}.toc.json",
            "key record": records[0],
            "wheel": next((self.cache / "files").glob("*/*/torch-*.whl")),
            "interpreter": next(self.cache.glob("interpreters/*/usr/lib/python*/zipfile.py"), None)
            or next(self.cache.glob("interpreters/*/usr/lib/python*/zipfile/__init__.py")),
            "blob in a layout: layer": layout.blob(torch["digest"]),
            "blob in a layout: manifest": layout.blob(self.expected[cell.tags[0]]),
            "blob in a layout: config": layout.blob(content["config"]["digest"]),
            "index": self.dist / "index.json",
            "list for docker load": self.dist / "manifest.json",
            "layout's version": self.dist / "oci-layout",
            "report": self.dist / "build.json",
        }[kind]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("damage")
    tiny = make_tiny(root / "tiny")
    index = Index(root / "index")
    for path in tiny.wheels.values():
        shutil.copy(path, index.folder / "files")
    # One wheel is fetched at first, so that the cache holds what a fetch leaves.
    shutil.rmtree(next((tiny.context.settings.cache_dir / "files").glob("*/*/pip-*")).parent)
    with index.serve() as url:
        settings = replace(tiny.context.settings, index_url=url)
        tiny = replace(tiny, context=Context(settings, QuietReporter(None)))
        made = Site(tiny, root, {})
        assert made.build() == []
        made.expected = {name: x.digest for name, x in Layout(made.dist).references().items()}
        yield made


def heal(site: Site, path: Path) -> None:
    """Build; what is not healed must be named, with a command that heals it."""
    failures = site.build()
    if failures:
        (failure,) = failures
        assert str(path) in failure
        assert "\n" not in failure
        command = COMMAND.search(failure)
        assert command, failure
        if command[1]:
            subprocess.run(shlex.split(command[1]), check=True)
        assert site.build() == []
    assert site.is_whole()


MADE_BY_A_BUILD: dict[str, list[Callable[[Path], None]]] = {
    "layer's blob": BYTES,
    "table of contents": TEXTS,
    "key record": TEXTS,
    "wheel": [*BYTES, executable],
    "interpreter": BYTES,
    "blob in a layout: layer": BYTES,
    "blob in a layout: manifest": TEXTS,
    "blob in a layout: config": BYTES,
    "index": TEXTS,
    "list for docker load": [flip, empty, folder],
    "layout's version": [flip, empty, folder],
    "report": TEXTS,
}
AFTER = {"wheel": "torch ", "interpreter": "bytecode of torch"}  # what is to be made of them again
CASES = [(kind, damage) for kind, damages in MADE_BY_A_BUILD.items() for damage in damages]


@pytest.mark.parametrize(
    ("kind", "damage"), CASES, ids=[f"{kind}-{damage.__name__}" for kind, damage in CASES]
)
def test_a_build_heals_it_or_says_how(
    site: Site, kind: str, damage: Callable[[Path], None]
) -> None:
    path = site.pick(kind)
    if kind in AFTER:
        site.forget(AFTER[kind])
    damage(path)
    heal(site, path)


SCRIPT = (
    "import sys, pickle; sys.path.insert(0, sys.argv[1]);"
    "from pathlib import Path; from test_damage import Site;"
    "site = pickle.load(open(sys.argv[2], 'rb')); print('\\n'.join(site.build()))"
)


def as_somebody() -> list[str]:
    """What makes root one who needs permissions, as other users do."""
    if os.geteuid():
        return []
    return ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]


@pytest.mark.parametrize("folder", ["cache", "dist"])
def test_files_that_may_not_be_read_are_replaced(site: Site, tmp_path: Path, folder: str) -> None:
    """Another user's files, all kinds at once: of no use, and in the way."""
    top = {"cache": site.cache, "dist": site.dist}[folder]
    paths = {kind: site.pick(kind) for kind in MADE_BY_A_BUILD}
    paths = {kind: path for kind, path in paths.items() if path.is_relative_to(top)}
    assert len(paths) > 4
    for kind in AFTER.keys() & paths.keys():
        site.forget(AFTER[kind])
    for path in filter(Path.exists, paths.values()):
        path.chmod(0)
        if os.geteuid() == 0:
            os.chown(path, 12345, 12345)
    (tmp_path / "site").write_bytes(pickle.dumps(site))
    argv = [*as_somebody(), sys.executable, "-c", SCRIPT, str(HERE), str(tmp_path / "site")]
    done = subprocess.run(
        argv, check=True, capture_output=True, text=True, cwd=HERE.parents[1], timeout=120
    )
    assert done.stdout.strip() == ""
    assert site.is_whole()


def test_a_cache_that_may_only_be_read_is_read(site: Site) -> None:
    record = site.pick("key record")
    touched = site.pick("layer's blob")
    os.utime(touched)  # so that the record is another one, and cannot be written
    script = (
        "import sys; from pathlib import Path;"
        "from wheelyard.images.assemble.store import LayerStore;"
        "print(LayerStore(Path(sys.argv[1])).find(sys.argv[2]).layer.digest)"
    )
    folders = [site.cache, *(path for path in site.cache.rglob("*") if path.is_dir())]
    modes = {path: path.stat().st_mode for path in folders}
    try:
        for path in folders:
            path.chmod(0o555)
        done = subprocess.run(
            [*as_somebody(), sys.executable, "-c", script, str(site.cache), record.stem],
            check=True,
            capture_output=True,
            text=True,
            cwd=HERE.parents[1],
        )
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    assert done.stdout.strip() == f"sha256:{touched.name}"


def rot(site: Site) -> Path:
    """A blob whose bytes have changed and of which no time tells, as on a disk that rots."""
    path = site.pick("layer's blob")
    record, store = site.pick("key record"), LayerStore(site.cache)
    stored = store.find(record.stem)
    assert stored is not None
    keeping_times(flip)(path)
    store._write_record(record.stem, stored.layer)
    assert site.build() == []
    assert not site.is_whole()  # nobody could tell
    return path


def test_a_blob_that_rots_unseen_is_healed_as_inspect_says(site: Site) -> None:
    path, cell = rot(site), site.tiny.cell("runtime")
    lock = load_stages(cell, site.tiny.plan, site.tiny.folder)[-1].lock
    with pytest.raises(StorageError, match="wheelyard build") as caught:
        inspect_layout_image(
            cell, lock, Layout(site.dist), site.expected[cell.tags[0]], lambda _: None
        )
    assert path.name in str(caught.value)
    heal(site, path)


@pytest.mark.parametrize("inflate", [False, True])
def test_a_blob_that_rots_unseen_is_healed_as_loading_says(site: Site, inflate: bool) -> None:
    path = rot(site)
    member = ArchiveMember("blob", 1 << 30, path, inflated=inflate)
    with pytest.raises(StorageError, match="wheelyard build") as caught:
        b"".join(stream([member]))
    assert path.name in str(caught.value)
    heal(site, path)


def test_recompute_heals_what_rots_unseen(site: Site) -> None:
    rot(site)
    cell = site.tiny.cell("runtime")
    build_images([cell], site.tiny.plan, site.dist, site.tiny.context, recompute=True)
    assert site.is_whole()


def test_recompute_makes_every_layer_of_wheels_again(site: Site) -> None:
    """A layer that was made of a damaged wheel is whole, and wrong."""
    (image,) = read_report(site.dist)
    (torch, other) = (
        next(x for x in image["layers"] if x["title"].startswith(begin))
        for begin in ("torch ", "Debian")
    )
    store = LayerStore(site.cache)
    before = store.blob(torch["digest"]).stat().st_ino, store.blob(other["digest"]).stat().st_ino
    cell = site.tiny.cell("runtime")
    results = build_images([cell], site.tiny.plan, site.dist, site.tiny.context, recompute=True)
    assert [type(x) for x in results] == [Built], results
    assert store.blob(torch["digest"]).stat().st_ino != before[0]
    assert store.blob(other["digest"]).stat().st_ino == before[1]
    assert site.is_whole()


# Kinds that other commands make, or that are there only while something is under way.


def damage_deb(site: Site, folder: Path, damage: Callable[[Path], None]) -> None:
    """It never reaches mmdebstrap."""
    data, tiny = b"!<arch>\n" + bytes(100), site.tiny
    sha256 = hashlib.sha256(data).hexdigest()
    deb = LockedDeb("x", "1", "all", sha256, len(data), "debian", "pool/x_1_all.deb")
    lock = PackageLock("tiny", "runtime", "bookworm", "", (deb,))
    stages = load_stages(tiny.cell("runtime"), tiny.plan, tiny.folder)
    cache = folder / "cache"
    settings = replace(tiny.context.settings, debian_snapshot="no", cache_dir=cache)
    work = Assembly(stages, replace(tiny.context, settings=settings), LayerStore(cache), Network())
    path = place(cache / "files", sha256, "x_1_all.deb")
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    assert kind_of(f"cache/{path.relative_to(cache)}") == "Debian package"
    assert supply(work, lock, "x", None) == {sha256: path}
    damage(path)
    with pytest.raises(WheelyardError):  # no source has it: it is fetched, not believed
        supply(work, lock, "x", None)


def damage_partial(site: Site, folder: Path, damage: Callable[[Path], None]) -> None:
    data = os.urandom(3_000_000)
    sha256 = hashlib.sha256(data).hexdigest()
    target = place(folder / "files", sha256, "x.whl")
    target.parent.mkdir(parents=True)
    with Partial(target, lambda _: None) as partial:
        partial.append(data[:1_000_000])
    growing = part(target)
    assert kind_of(f"cache/{growing.relative_to(folder)}") == "partial download"
    damage(growing)
    with serve(Server({"/x.whl": data})) as server:
        item = Download(f"{server.url}/x.whl", "x.whl", sha256, len(data))
        settings = site.tiny.context.settings
        found = fetch_all([item], folder / "files", settings, QuietReporter(None))
    assert found[sha256].read_bytes() == data


def damage_lock(_site: Site, folder: Path, damage: Callable[[Path], None]) -> None:
    path = folder / "files/ab/x.whl.lock"
    path.parent.mkdir(parents=True)
    with locked(path):
        assert kind_of("cache/files/ab/abcd/x.whl.lock") == "lock"
    path.write_bytes(b"something")
    damage(path)
    try:
        with locked(path):
            return
    except StorageError as error:
        command = COMMAND.search(str(error))
        assert command
        subprocess.run(shlex.split(command[1]), check=True)
    with locked(path):
        pass


def damage_scratch(_site: Site, folder: Path, damage: Callable[[Path], None]) -> None:
    store = LayerStore(folder / "cache")
    scratch = store.scratch()
    scratch.write_bytes(b"half a layer")
    for path in scratch.parent.iterdir():
        assert kind_of(str(path.relative_to(folder))) == "scratch"
    damage(scratch)
    LayerStore(folder / "cache")
    assert scratch.exists()  # ours, whatever it is
    del store
    assert not list((folder / "cache/tmp").iterdir())


def damage_notes(_site: Site, folder: Path, damage: Callable[[Path], None]) -> None:
    """The upload is begun anew; the registry is not even asked."""
    note = folder / "uploads/note.json"
    upload._remember(note, upload.Upload(httpx.URL("http://127.0.0.1:1/x?state=" + "x" * 99)))
    assert kind_of("cache/uploads/note.json") == "upload under way"
    damage(note)
    nobody: Any = SimpleNamespace()
    try:
        assert upload._recall(nobody, note) is None
    except AttributeError:  # a flipped bit in the location: the registry knows no such upload
        assert damage.__name__.startswith("flip")


def damage_name(site: Site, folder: Path, damage: Callable[[Path], None]) -> None:
    content = Content(PrefetchedFiles([], lambda *_: [], site.tiny.context), (), (), str)  # type: ignore[arg-type]
    with open_wheelhouse(content, folder):
        pass
    path = folder / "wheelhouse.json"
    assert kind_of("cache/wheelhouse.json") == "wheelhouse's name"
    damage(path)
    for _ in range(2):
        with open_wheelhouse(content, folder) as server:
            assert 0 < server.server_port < 1 << 16
        assert json.loads(path.read_text())["port"]


def damage_checks(_site: Site, folder: Path, damage: Callable[[Path], None]) -> None:
    record = Record(
        "x", DIGEST, ("x:1",), "chroot", False, ("all",), 1.0, ({"name": "a", "status": "pass"},)
    )
    write_record(folder, record)
    assert read_record(folder, DIGEST) == record
    path = record_path(folder, DIGEST)
    assert kind_of(f"reports/verify/{path.name}") == "record of checks"
    damage(path)
    found = read_record(folder, DIGEST)
    assert found is None or found.counts  # what can be read can be used
    if path.is_dir():
        with pytest.raises(StorageError, match="remove it: rm -r"):
            write_record(folder, record)
        return
    write_record(folder, record)
    assert read_record(folder, DIGEST) == record


def damage_lists(_site: Site, folder: Path, damage: Callable[[Path], None]) -> None:
    """What is damaged is gone before apt, which would believe it, sees it."""
    context: Any = SimpleNamespace(settings=SimpleNamespace(cache_dir=folder))
    name = "deb.example_Packages"
    for _ in range(2):  # what is whole is kept
        with packages._lists(context, "bookworm") as lists:
            lists.mkdir(exist_ok=True)
            (lists / name).write_bytes(b"Package: x\n" * 100)
    assert kind_of(f"cache/lists/bookworm/{name}") == "list of packages"
    damage(folder / "lists/bookworm" / name)
    with packages._lists(context, "bookworm") as lists:
        assert not lists.exists()


def damage_manifest(site: Site, folder: Path, damage: Callable[[Path], None]) -> None:
    data = json.dumps({"schemaVersion": 2, "config": {}, "layers": [], "x": "y" * 99}).encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    settings = replace(site.tiny.context.settings, cache_dir=folder)
    work: Any = SimpleNamespace(context=SimpleNamespace(settings=settings))
    path = folder / f"rootfs/{digest[7:]}.json"
    assert kind_of(f"cache/rootfs/{path.name}") == "pinned base's manifest"
    with ExitStack() as stack:
        server = stack.enter_context(serve(Server({f"/v2/x/manifests/{digest}": data})))
        address = parse_address(server.url)
        registry = stack.enter_context(open_registry(address, settings, QuietReporter(None)))

        def read() -> Any:
            return pinned._content(work, registry, "x", "manifests", digest)

        assert read() == read() == json.loads(data)
        assert len(server.requests) == 1
        damage(path)
        assert read() == read() == json.loads(data)
        assert len(server.requests) == 2


def damage_uv(site: Site, folder: Path, damage: Callable[[Path], None]) -> None:
    """Every file of it at once."""
    settings = replace(site.tiny.context.settings, cache_dir=folder)
    wheels = [wheel(path) for path in site.tiny.wheels.values()]
    assert locate(wheels, PYTHON, settings)
    paths = [path for path in (folder / "uv").rglob("*") if path.is_file()]
    assert {kind_of(f"cache/{path.relative_to(folder)}") for path in paths} == {
        "uv's cache",
        "lock",
    }
    for path in paths:
        if path.stat().st_size or damage.__name__ == "folder":
            damage(path)
    try:
        assert len(locate(wheels, PYTHON, settings)) == len(wheels)
    except StorageError as error:
        assert damage.__name__ == "folder"
        command = re.search(r"rm -r \S+", str(error))
        assert command
        subprocess.run(shlex.split(command[0]), check=True)
        assert len(locate(wheels, PYTHON, settings)) == len(wheels)


Damage = Callable[[Path], None]
OTHERS: dict[str, tuple[Callable[[Site, Path, Damage], None], list[Damage]]] = {
    "Debian package": (damage_deb, BYTES),
    "partial download": (damage_partial, BYTES),
    "lock": (damage_lock, [flip, half, empty, folder]),
    "scratch": (damage_scratch, BYTES),
    "upload under way": (damage_notes, TEXTS),
    "wheelhouse's name": (damage_name, TEXTS),
    "record of checks": (damage_checks, TEXTS),
    "uv's cache": (damage_uv, BYTES),
    "list of packages": (damage_lists, BYTES),
    "pinned base's manifest": (damage_manifest, TEXTS),
}
OTHER_CASES = [(kind, damage) for kind, (_, damages) in OTHERS.items() for damage in damages]


@pytest.mark.parametrize(
    ("kind", "damage"), OTHER_CASES, ids=[f"{kind}-{x.__name__}" for kind, x in OTHER_CASES]
)
def test_another_kind_heals_or_says_how(
    site: Site, tmp_path: Path, kind: str, damage: Damage, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "Debian package":
        monkeypatch.setenv("PATH", str(tmp_path / "no tools"))  # no mirror is asked for
    OTHERS[kind][0](site, tmp_path, damage)


NOT_OURS = {"engine's log"}  # nothing reads it


def test_every_row_of_the_table_is_damaged() -> None:
    made = {kind.partition(":")[0] for kind in MADE_BY_A_BUILD}
    assert KINDS.keys() == made | OTHERS.keys() | NOT_OURS


def test_every_file_that_a_build_leaves_has_a_row(site: Site) -> None:
    found = {
        f"{name}/{path.relative_to(top)}"
        for name, top in (("cache", site.cache), ("dist", site.dist))
        for path in top.rglob("*")
        if not path.is_dir()
    }
    assert [path for path in sorted(found) if kind_of(path) is None] == []
    made = {kind.partition(":")[0] for kind in MADE_BY_A_BUILD}
    assert {kind_of(path) for path in found} >= made | {"uv's cache"}
