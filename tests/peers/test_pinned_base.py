"""Assembled on a registry's image: its blobs as they are, nobody's root, no Debian tool."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sysconfig
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import PYTHON, Tiny, put_wheel, write_root

from tests.peers.registries import registry
from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.errors import BaseImageError
from wheelyard.images.build.build import build_images
from wheelyard.images.build.results import Built, Failed
from wheelyard.lock.stages import load_stages
from wheelyard.oci.layout import Layout
from wheelyard.planning.plan import load_plan

pytestmark = pytest.mark.usefixtures("at_nobodys_home")
STATUS = "".join(f"Package: {name}\nStatus: install ok installed\n\n" for name in ("tini", "git"))
MOVED = (f"usr/bin/python{PYTHON}", f"usr/lib/python{PYTHON}/")


@dataclass
class Image:
    """An image in a registry, made by nobody's tool that we know."""

    name: str  # with digest
    layers: list[str]  # digests


def repack(tar: Path, *, home: str, extra: dict[str, bytes]) -> bytes:
    """The tiny root with its Python in another place, and a status of dpkg."""
    output = io.BytesIO()
    with tarfile.open(tar) as source, tarfile.open(fileobj=output, mode="w") as target:
        for info in source:
            content = source.extractfile(info) if info.isreg() else None
            if info.name.startswith(MOVED):
                info.name = info.name.replace("usr/", f"{home}/", 1)
            info.name = f"./{info.name}"  # as `docker import` leaves them
            target.addfile(info, content)
        for name, data in extra.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            target.addfile(info, io.BytesIO(data))
    return output.getvalue()


def small_tar(files: dict[str, bytes]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as target:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            target.addfile(info, io.BytesIO(data))
    return output.getvalue()


def publish(address: str, tars: list[bytes], folder: Path) -> Image:
    """Let skopeo push layers as one image."""
    layout = Layout(folder)
    layout.create()

    def put(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (layout.blobs / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    kinds = "application/vnd.oci.image"
    layers = [put(gzip.compress(tar, 1, mtime=0), f"{kinds}.layer.v1.tar+gzip") for tar in tars]
    diff_ids = [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]
    config: dict[str, Any] = {"architecture": "amd64", "os": "linux", "config": {}}
    config["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": f"{kinds}.manifest.v1+json",
        "config": put(json.dumps(config).encode(), f"{kinds}.config.v1+json"),
        "layers": layers,
    }
    entry = put(json.dumps(manifest).encode(), manifest["mediaType"])
    entry["annotations"] = {"org.opencontainers.image.ref.name": "x"}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    target = f"docker://{address}/team/debian:12"
    command = ["skopeo", "copy", "--dest-tls-verify=false", f"oci:{folder}:x", target]
    subprocess.run(command, check=True, capture_output=True)
    name = f"{address}/team/debian@{entry['digest']}"
    return Image(name, [layer["digest"] for layer in layers])


@pytest.fixture
def address(tmp_path: Path, need: Callable[..., None]) -> Iterator[str]:
    need("docker-registry", "skopeo")
    with registry(tmp_path) as found:
        yield found


def root_tar(tiny: Tiny, folder: Path) -> Path:
    return write_root(load_stages(tiny.cell("runtime"), tiny.plan, tiny.folder)[0], folder).tar


def on(tiny: Tiny, image: str, cache: Path) -> Tiny:
    """The project on that image, with a cache that has wheels and nothing else."""
    path = tiny.folder / "matrix.yaml"
    matrix = yaml.safe_load(path.read_text())
    matrix["bases"]["tiny"]["image"] = image
    path.write_text(yaml.safe_dump(matrix))
    for wheel in tiny.wheels.values():
        put_wheel(cache, wheel)
    settings = replace(tiny.context.settings, cache_dir=cache)
    return replace(
        tiny, plan=load_plan(tiny.folder), context=Context(settings, QuietReporter(None))
    )


def built(tiny: Tiny, output: Path) -> list[Built]:
    results = build_images(tiny.plan.cells, tiny.plan, output, tiny.context)
    assert all(isinstance(one, Built) for one in results), results
    return [one for one in results if isinstance(one, Built)]


def failure(tiny: Tiny, output: Path) -> str:
    results = build_images([tiny.cell("runtime")], tiny.plan, output, tiny.context)
    (failed,) = results
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, BaseImageError)
    return str(failed.error)


def merged(layout: Layout, manifest: str) -> dict[str, tarfile.TarInfo]:
    found: dict[str, tarfile.TarInfo] = {}
    for layer in layout.read_json(manifest)["layers"]:
        with tarfile.open(layout.blob(layer["digest"])) as archive:
            found |= {info.name.removeprefix("./"): info for info in archive}
    return found


@pytest.mark.parametrize("home", ["usr", "usr/local"])
def test_its_blobs_are_the_lowest_layers(
    tiny: Tiny, address: str, tmp_path: Path, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = repack(
        root_tar(tiny, tmp_path), home=home, extra={"var/lib/dpkg/status": b"", "etc/motd": b"x"}
    )
    upper = small_tar({"var/lib/dpkg/status": STATUS.encode(), "etc/.wh.motd": b""})
    image = publish(address, [root, upper], tmp_path / "image")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))  # no mmdebstrap, no dpkg-deb
    project = on(tiny, image.name, tmp_path / "cache")
    devel, runtime = sorted(built(project, tmp_path / "dist"), key=lambda one: one.cell.id)
    layout = Layout(tmp_path / "dist")
    for one in (devel, runtime):
        digests = [x["digest"] for x in layout.read_json(one.image.manifest.digest)["layers"]]
        assert digests[:2] == image.layers
        files = merged(layout, one.image.manifest.digest)
        assert files["opt/venv/bin/python"].linkname == f"/{home}/bin/python{PYTHON}"
        assert (files["opt/venv"].gid, files["opt/venv"].mode) == (900, 0o2775)
        assert files["workspace"].uid == 1000
        assert any(path.endswith("module_1.cpython-311.pyc") for path in files)
    contract = runtime.image.layers[2].stored
    with tarfile.open(contract.path) as archive:
        names = [info.name for info in archive if not info.isdir()]
    assert "etc/passwd" in names
    ours = [name for name in names if name.startswith(("usr/", "lib"))]
    assert [name.rpartition("/")[2] for name in ours] == ["wheelyard.pth"]
    assert "etc/motd" not in names

    # A second machine makes the same image, and the first needs the registry no more.
    again = on(tiny, image.name, tmp_path / "other")
    assert [one.image.manifest for one in built(again, tmp_path / "dist2")] == [
        one.image.manifest for one in built(project, tmp_path / "dist3")
    ]


def test_what_it_lacks_is_named(tiny: Tiny, address: str, tmp_path: Path) -> None:
    tar = root_tar(tiny, tmp_path)
    image = publish(address, [repack(tar, home="usr", extra={})], tmp_path / "one")
    assert "lacks the Debian packages tini" in failure(
        on(tiny, image.name, tmp_path / "cache"), tmp_path / "dist"
    )
    status = {"var/lib/dpkg/status": STATUS.encode()}
    image = publish(address, [repack(tar, home="opt", extra=status)], tmp_path / "two")
    said = failure(on(tiny, image.name, tmp_path / "cache"), tmp_path / "dist")
    assert f"no Python {PYTHON} in /usr/local/bin or /usr/bin" in said


def test_what_is_not_there_is_said(tiny: Tiny, address: str, tmp_path: Path) -> None:
    gone = f"{address}/team/debian@sha256:{'0' * 64}"
    assert "is not available" in failure(on(tiny, gone, tmp_path / "cache"), tmp_path / "dist")
    short = f"python@sha256:{'0' * 64}"
    said = failure(on(tiny, short, tmp_path / "cache"), tmp_path / "dist")
    assert "does not name a registry's host" in said


EVIL = """
import os, sys
import _socket
seen = []
for act in (
    lambda: open({victim!r}, "w"),
    lambda: open("/usr/evil", "w"),
    lambda: open({cache!r} + "/evil", "w"),
    lambda: _socket.socket().connect(({host!r}, {port})),
    lambda: os.setuid(0),
    lambda: os.listdir("/proc/1"),
):
    try:
        act()
        seen.append("done")
    except OSError as error:
        seen.append(error.strerror)
sys.exit("ids " + str({{*os.getresuid()}}) + " root " + str(sorted(os.listdir("/"))) + str(seen))
"""


def test_its_python_sees_no_file_and_no_network_of_the_host(
    tiny: Tiny, address: str, tmp_path: Path
) -> None:
    """A module of its standard library is run by every start of it."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"safe")
    host, _, port = address.partition(":")
    cache = tmp_path / "cache"
    evil = EVIL.format(victim=str(victim), cache=str(cache), host=host, port=port)
    stdlib = f"usr/lib/python{PYTHON}"
    status = {"var/lib/dpkg/status": STATUS.encode()}
    sockets = next((Path(sysconfig.get_path("stdlib")) / "lib-dynload").glob("_socket.*.so"))
    upper = {
        f"{stdlib}/json/__init__.py": evil.encode(),
        f"{stdlib}/lib-dynload/{sockets.name}": sockets.read_bytes(),
    }
    root = repack(root_tar(tiny, tmp_path), home="usr", extra=status)
    image = publish(address, [root, small_tar(upper)], tmp_path / "image")
    project = on(tiny, image.name, cache)
    (failed,) = build_images(
        [project.cell("runtime")], project.plan, tmp_path / "dist", project.context
    )
    assert isinstance(failed, Failed)
    said = str(failed.error)
    user = 65534 if os.geteuid() == 0 else os.geteuid()
    assert f"ids {{{user}}} root [" in said
    for name in ("bin", "dev", "etc", "home", "proc", "root", "tmp", "work"):
        assert f"'{name}'" not in said
    assert "done" not in said
    assert "Network is unreachable" in said
    assert victim.read_bytes() == b"safe"
    assert not (cache / "evil").exists()


def hostile_layers(victim: Path) -> dict[str, bytes]:
    """Tars that would reach out of the folder that the interpreter is unpacked into."""
    stdlib = f"usr/lib/python{PYTHON}"
    up = "/.." * 40

    def linked(name: str, target: str, below: str) -> bytes:
        output = io.BytesIO()
        with tarfile.open(fileobj=output, mode="w") as archive:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
            info = tarfile.TarInfo(f"{name}/{below}")
            info.size = 4
            archive.addfile(info, io.BytesIO(b"evil"))
        return output.getvalue()

    return {
        "climbs": small_tar({f"{stdlib}{up}{victim}/x.py": b"evil"}),
        "climbs a little": small_tar({f"{stdlib}/../../../../evil.py": b"evil"}),
        "by a link": linked(f"{stdlib}/a", str(victim), "x.py"),
        "by a link that climbs": linked(f"{stdlib}/a", "../" * 40 + str(victim), "x.py"),
        "over a file": linked(f"{stdlib}/a", str(victim), "keep"),
    }


@pytest.mark.parametrize("name", list(hostile_layers(Path("/x"))))
def test_its_layers_reach_nothing_of_the_host(
    tiny: Tiny, address: str, tmp_path: Path, name: str
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "keep").write_bytes(b"safe")
    status = {"var/lib/dpkg/status": STATUS.encode()}
    root = repack(root_tar(tiny, tmp_path), home="usr", extra=status)
    image = publish(address, [root, hostile_layers(victim)[name]], tmp_path / "image")
    cache = tmp_path / "cache"
    project = on(tiny, image.name, cache)
    (result,) = build_images(
        [project.cell("runtime")], project.plan, tmp_path / "dist", project.context
    )
    if isinstance(result, Failed):
        assert "leads out of the image" in str(result.error)
    assert [path.name for path in victim.iterdir()] == ["keep"]
    assert (victim / "keep").read_bytes() == b"safe"
    assert not list(cache.glob("evil*"))
    assert not list(tmp_path.glob("evil*"))
