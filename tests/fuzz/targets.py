"""What is fed: every reader of the product's that may meet a stranger's bytes, by name."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from wheels import make_wheel

from tests.fuzz.mutants import Mutate, blind, documents, lines, tars, zips
from wheelyard.console.progress import QuietReporter
from wheelyard.contract.paths import VENV
from wheelyard.engines.readback import read_layers
from wheelyard.images.assemble.flatten import flatten
from wheelyard.images.assemble.record import read_record
from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.assemble.worker import WheelJob, make_layer
from wheelyard.images.build.report import read_report, unpacked_sizes
from wheelyard.images.inspect.tree import LayerContents, Tree
from wheelyard.layers.wheels import WheelInput
from wheelyard.lock.lockfile import read_requirements_lock, render_requirements_lock
from wheelyard.lock.packages import read_package_lock, render_package_lock
from wheelyard.model import LockedDeb, LockedWheel, PackageLock, RequirementsLock
from wheelyard.oci.documents import UnreadableError
from wheelyard.oci.layout import CONFIG_TYPE, MANIFEST_TYPE, Layout
from wheelyard.oci.reindex import reindex
from wheelyard.oci.unpack import unpack
from wheelyard.planning.catalogue import plan_entries, read_catalogue, to_json
from wheelyard.planning.facts import load_upstream
from wheelyard.planning.plan import load_plan
from wheelyard.publish.unbundle import import_bundle

ROOT = Path(__file__).parents[2]
HEX = hashlib.sha256(b"").hexdigest()
DIGEST = f"sha256:{HEX}"
SILENT = QuietReporter(None)


@dataclass(frozen=True)
class Target:
    """A reader, what it reads when nothing is wrong, and how that is mutated."""

    sample: Callable[[], bytes]
    mutate: Mutate
    feed: Callable[[bytes, Path], object]  # with an empty folder for whatever it writes


def wheel() -> bytes:
    """A wheel with one of everything."""
    points = "[console_scripts]\ndemo = demo:f\npip = demo:f\n[gui_scripts]\nb = demo:f\n"
    extra = {
        "demo-1.0.dist-info/entry_points.txt": points,
        "demo-1.0.data/scripts/tool": "#!python -E\nprint(1)\n",
        "demo-1.0.data/headers/demo.h": "",
        "demo-1.0.data/data/share/demo.txt": "x" * 300,
    }
    with tempfile.TemporaryDirectory() as folder:
        return make_wheel(Path(folder), extra=extra).read_bytes()


def install(data: bytes, folder: Path) -> None:
    path = folder / "demo-1.0-py3-none-any.whl"
    path.write_bytes(data)
    inputs = (WheelInput(path, "demo", "1.0"),)
    layer = make_layer(WheelJob("key", "demo", inputs, "3.11", folder / "layer"))
    entries = reindex(folder / "layer", layer.digest, layer.diff_id, lambda _: None)
    above = ("opt", VENV)
    assert all(x.path in above or x.path.startswith(f"{VENV}/") for x in entries), entries
    assert not any(".wh." in x.path for x in entries), entries


def blob() -> bytes:
    """A layer with every kind of entry."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, link in (
            ("d", tarfile.DIRTYPE, ""),
            ("d/a", tarfile.REGTYPE, ""),
            ("d/b", tarfile.LNKTYPE, "d/a"),
            ("d/c", tarfile.SYMTYPE, "../d"),
            ("d/c/x", tarfile.REGTYPE, ""),
            ("f", tarfile.FIFOTYPE, ""),
            ("d/.wh.e", tarfile.REGTYPE, ""),
            ("é" * 60, tarfile.REGTYPE, ""),
            ("n", tarfile.CHRTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            info.size = 700 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"x" * 700) if info.size else None)
    return gzip.compress(out.getvalue(), 1, mtime=0)


def index(data: bytes, folder: Path) -> None:
    path = folder / "blob"
    path.write_bytes(data)
    try:
        tar = gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        tar = b""
    digest, diff_id = (f"sha256:{hashlib.sha256(x).hexdigest()}" for x in (data, tar))
    entries = reindex(path, digest, diff_id, lambda _: None)
    tree = Tree([LayerContents(path, entries, "layer", from_wheels=False)])
    for entry in tree:
        if entry.kind in ("file", "hardlink"):
            tree.read(entry.path)


def flat(data: bytes, folder: Path) -> None:
    for name, content in (("below", blob()), ("blob", data)):
        (folder / name).write_bytes(content)
    root = flatten([folder / "below", folder / "blob"], folder / "tar")
    for path, node in root.nodes.items():
        if node.entry.kind == "file":
            root.read(path)


def unpacked(data: bytes, folder: Path) -> None:
    (folder / "root").mkdir()
    (folder / "blob").write_bytes(data)
    unpack([folder / "blob"], folder / "root")


def listed(data: bytes, folder: Path) -> None:
    (folder / "blob").write_bytes(data)
    read_layers([folder / "blob"])


def requirements() -> bytes:
    """A lock of two wheels."""
    wheels = [LockedWheel(x, "1.0", f"{x}-1.0-py3-none-any.whl", HEX, 9) for x in ("a", "b")]
    lock = RequirementsLock("cell", HEX, tuple(wheels), "2024-01-01T00:00:00Z")
    return render_requirements_lock(lock).encode()


def packages() -> bytes:
    """A lock of two packages."""
    debs = [LockedDeb(x, "1:2.0-1", "amd64", HEX, 9, "debian", f"pool/{x}.deb") for x in ("a", "b")]
    lock = PackageLock("debian", "runtime", "bookworm", HEX, tuple(debs))
    return render_package_lock(lock).encode()


def resealed(data: bytes, rng: object) -> bytes:
    """A mutated lock whose checksum is right again: written by who knows how they are sealed."""
    mutated = lines(data, rng)  # type: ignore[arg-type]
    head, blank, body = mutated.partition(b"\n\n")
    checksum = f"# body: sha256:{hashlib.sha256(body).hexdigest()}".encode()
    return re.sub(rb"# body: sha256:[0-9a-f]*", checksum, head) + blank + body


def read_file(read: Callable[[Path], object], name: str) -> Callable[[bytes, Path], object]:
    """A reader of one file at its place in a folder."""

    def feed(data: bytes, folder: Path) -> object:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return read(path)

    return feed


def record() -> bytes:
    """What is committed, two layers and one image of it."""
    content = json.loads((ROOT / "images/layers.json").read_text())
    for part, count in (("layers", 2), ("images", 1)):
        content[part] = dict(list(content[part].items())[:count])
    return json.dumps(content).encode()


@cache
def small_layout() -> dict[str, bytes]:
    """The files of a layout with one image."""
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(Path(folder))
        layout.create()
        tar = gzip.decompress(blob())
        diff_id = f"sha256:{hashlib.sha256(tar).hexdigest()}"
        digest = f"sha256:{hashlib.sha256(blob()).hexdigest()}"
        layout.blob(digest).write_bytes(blob())
        config = {"rootfs": {"type": "layers", "diff_ids": [diff_id]}, "config": {"Labels": {}}}
        described = layout.put(json.dumps(config).encode(), CONFIG_TYPE)
        one = {"mediaType": "application/x", "digest": digest, "size": len(blob())}
        manifest = {"config": described.as_json(), "layers": [one]}
        image = layout.put(json.dumps(manifest).encode(), MANIFEST_TYPE)
        layout.set_references({"demo:1": image})
        layer = {"title": "x", "digest": digest, "diff_id": diff_id, "size": 1, "unpacked_size": 1}
        entry = {
            "id": "demo", "tags": ["demo:1"], "framework": "pytorch", "framework_version": "2.3.1",
            "cuda": "12.1", "cudnn": "8.9", "python": "3.11", "flavour": "runtime", "base": "tiny",
            "digest": image.digest, "config": described.digest, "compressed_bytes": 1,
            "unpacked_bytes": 1, "layers": [layer], "inspected": {"CUDA": "12.1"},
        }  # fmt: skip
        report = json.dumps({"version": 1, "images": [entry]})
        (layout.folder / "build.json").write_text(report)
        files = (x for x in layout.folder.rglob("*") if x.is_file())
        return {str(x.relative_to(layout.folder)): x.read_bytes() for x in files}


def put(files: dict[str, bytes], folder: Path) -> Path:
    """Write files below a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def part(name: str) -> Callable[[], bytes]:
    """One file of the small layout."""
    return lambda: small_layout()[name]


def manifest_name() -> str:
    """Where the small layout's manifest lies."""
    digest = json.loads(small_layout()["index.json"])["manifests"][0]["digest"]
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def layout_index(data: bytes, folder: Path) -> None:
    layout = Layout(put({**small_layout(), "index.json": data}, folder))
    try:
        layout.references()
    finally:
        layout.repair(
            {"demo:1": json.loads(small_layout()["index.json"])["manifests"][0]["digest"]}
        )
        layout.prune()


def layout_report(data: bytes, folder: Path) -> None:
    put({"build.json": data}, folder)
    read_report(folder)
    unpacked_sizes(folder)


def bundle() -> bytes:
    """A bundle as a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in small_layout().items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def bundle_tar(data: bytes, rng: object) -> bytes:
    """A bundle's tar, mutated as a layer's is."""
    packed = gzip.compress(data, 1)
    try:
        return gzip.decompress(tars(packed, rng))  # type: ignore[arg-type]
    except (OSError, EOFError, zlib.error):
        return blind(data, rng)  # type: ignore[arg-type]


def taken_tar(data: bytes, folder: Path) -> None:
    (folder / "bundle.tar").write_bytes(data)
    import_bundle(folder / "bundle.tar", Layout(folder / "dist"), SILENT)


def taken(name: str) -> Callable[[bytes, Path], object]:
    """Import a bundle of which one file was mutated; a manifest goes by its own digest."""

    def feed(data: bytes, folder: Path) -> object:
        files = {**small_layout(), name: data}
        if name.startswith("blobs/"):
            digest = hashlib.sha256(data).hexdigest()
            files[f"blobs/sha256/{digest}"] = data
            index = json.loads(files["index.json"])
            index["manifests"][0] |= {"digest": f"sha256:{digest}", "size": len(data)}
            files["index.json"] = json.dumps(index).encode()
        put(files, folder / "bundle")
        return import_bundle(folder / "bundle", Layout(folder / "dist"), SILENT)

    return feed


def catalogue() -> bytes:
    """The catalogue of three images of the matrix."""
    plan = load_plan(ROOT)
    return json.dumps(to_json(plan_entries(plan.cells[:3], load_upstream(), []), 1)).encode()


def listed_images(data: bytes, _folder: Path) -> None:
    with suppress(UnreadableError):  # whoever asked for the catalogue says where it is
        read_catalogue(data)


def cached_layer(data: bytes, folder: Path) -> None:
    store = LayerStore(folder / "cache")
    (folder / "cache/layers").mkdir(parents=True, exist_ok=True)
    (folder / f"cache/layers/{HEX}.json").write_bytes(data)
    store.find(HEX)


def cached_sample() -> bytes:
    """A key's record in the cache."""
    layer = {"digest": DIGEST, "diff_id": DIGEST, "size": 1, "unpacked_size": 1}
    return json.dumps(layer).encode()


TARGETS: dict[str, Target] = {
    "wheel": Target(wheel, zips, install),
    "tar-index": Target(blob, tars, index),
    "flattened": Target(blob, tars, flat),
    "unpacked": Target(blob, tars, unpacked),
    "read-back": Target(blob, tars, listed),
    "requirements.lock": Target(
        requirements, resealed, read_file(read_requirements_lock, "cell/requirements.lock")
    ),
    "package-lock": Target(packages, resealed, read_file(read_package_lock, "a.lock")),
    "layers.json": Target(
        record, documents, read_file(lambda x: read_record(x.parents[1]), "images/layers.json")
    ),
    "index.json": Target(part("index.json"), documents, layout_index),
    "build.json": Target(part("build.json"), documents, layout_report),
    "catalogue": Target(catalogue, documents, listed_images),
    "bundle": Target(bundle, bundle_tar, taken_tar),
    "bundle-index": Target(part("index.json"), documents, taken("index.json")),
    "bundle-report": Target(part("build.json"), documents, taken("build.json")),
    "bundle-manifest": Target(lambda: small_layout()[manifest_name()], documents, taken("blobs/x")),
    "cached-layer": Target(cached_sample, documents, cached_layer),
}
