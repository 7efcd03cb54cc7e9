"""Layers as eStargz: read by its own library, mounted by containerd, ordinary to everybody else."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tiny import Tiny

from tests.needs import missing
from tests.peers import lazy
from tests.peers.project import REPOSITORY
from tests.peers.pushed import RUNTIME
from tests.peers.registries import PASSWORD, USER, registry, serving
from tests.peers.tokens import GRACE, token_server
from wheelyard.cli import main
from wheelyard.layers import estargz
from wheelyard.settings import Settings, load_settings

READ, UNREAD = "/cell.json", "/tarfile.py"  # of the last layer and the first
BLOBS = "registry/docker/registry/v2/blobs/sha256"
pytestmark = pytest.mark.usefixtures("at_nobodys_home", "registry_tools")


@pytest.fixture(scope="module")
def settings(need: Callable[..., None]) -> Settings:
    need("go", "containerd", "ctr-remote")
    if not lazy.LIBRARY.is_dir():
        missing(f"{lazy.LIBRARY} is missing (golang-github-containerd-stargz-snapshotter-dev)")
    return load_settings({"project": str(REPOSITORY)})


@pytest.fixture(scope="module")
def verifier(settings: Settings) -> Path:
    return lazy.program("verifier", settings)


@pytest.fixture(scope="module")
def snapshotter(settings: Settings, need_root: None) -> Path:
    return lazy.program("snapshotter", settings)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A registry's address, and the folder of its blobs."""
    with registry(tmp_path) as address:
        yield address, tmp_path / BLOBS


@pytest.fixture
def manifest(
    place: tuple[str, Path], tiny: Tiny, tiny_dist: Path, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """The manifest of the small image, pushed as eStargz."""
    address, blobs = place
    assert main(push_words(tiny, tiny_dist, address)) == 0
    (told,) = json.loads(capsys.readouterr().out)
    read: dict[str, Any] = json.loads(stored(blobs, told["digest"]).read_bytes())
    return read


def push_words(tiny: Tiny, tiny_dist: Path, address: str) -> list[str]:
    words = ["push", "runtime", "--compression", "estargz", "--json", "--no-attest"]
    words += ["--output", str(tiny_dist), "--project", str(tiny.folder)]
    words += ["--cache-dir", str(tiny.context.settings.cache_dir)]
    return [*words, "--registry", f"http://{address}"]


def stored(blobs: Path, digest: str) -> Path:
    sha256 = digest.partition(":")[2]
    return blobs / sha256[:2] / sha256 / "data"


def diff_ids(manifest: dict[str, Any], blobs: Path) -> list[str]:
    config = json.loads(stored(blobs, manifest["config"]["digest"]).read_bytes())
    return list(config["rootfs"]["diff_ids"])


def test_its_own_library_finds_every_file_of_every_layer(
    manifest: dict[str, Any], place: tuple[str, Path], verifier: Path
) -> None:
    seen = 0
    for layer in manifest["layers"]:
        argv = [
            verifier,
            stored(place[1], layer["digest"]),
            layer["annotations"][estargz.TOC_DIGEST],
        ]
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        seen += int(done.stdout.split()[0])
    assert seen > 20


def test_to_others_it_is_an_ordinary_image(
    manifest: dict[str, Any], place: tuple[str, Path], tmp_path: Path
) -> None:
    target = f"dir:{tmp_path / 'plain'}"
    argv = ["skopeo", "copy", "--src-tls-verify=false", "--dest-decompress"]
    subprocess.run([*argv, f"docker://{place[0]}/{RUNTIME}", target], check=True)
    hashes = {
        f"sha256:{hashlib.sha256(p.read_bytes()).hexdigest()}" for p in tmp_path.glob("plain/*")
    }
    assert set(diff_ids(manifest, place[1])) < hashes


def test_containerd_mounts_it_and_fetches_what_is_read(
    manifest: dict[str, Any], place: tuple[str, Path], snapshotter: Path, tmp_path: Path
) -> None:
    name, target = f"{place[0]}/{RUNTIME}", tmp_path / "mounted"
    with lazy.containerd(tmp_path, snapshotter) as running:
        pulled = running.ctr("image", "rpull", "--plain-http", name)
        assert pulled.returncode == 0, pulled.stderr
        mounts = running.inside("cat", "/proc/self/mounts").stdout
        assert mounts.count("fuse.rawBridge") == len(manifest["layers"])
        running.mount(diff_ids(manifest, place[1]), target)
        cell = running.inside("cat", target / "opt/wheelyard/cell.json")
        assert not cell.returncode, (cell.stderr, (tmp_path / "log").read_text()[-2500:])
        assert json.loads(cell.stdout)["id"] == "pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime"
        listed = running.inside("sh", "-c", f"find {target} -type f -exec sha256sum {{}} + | wc -l")
        assert int(listed.stdout) > 20, listed.stderr


def test_another_content_is_an_error_and_never_a_file(
    manifest: dict[str, Any], place: tuple[str, Path], snapshotter: Path, tmp_path: Path
) -> None:
    blob = stored(place[1], manifest["layers"][-1]["digest"])
    data = bytearray(blob.read_bytes())
    toc = json.loads(toc_of(bytes(data)))
    row = next(row for row in toc["entries"] if row["name"].endswith(READ))
    data[row["offset"] + 20] ^= 0x55
    blob.write_bytes(data)
    name, target = f"{place[0]}/{RUNTIME}", tmp_path / "mounted"
    with lazy.containerd(tmp_path, snapshotter) as running:
        assert running.ctr("image", "rpull", "--plain-http", name).returncode == 0
        running.mount(diff_ids(manifest, place[1]), target)
        read = running.inside("cat", target / "opt/wheelyard/cell.json")
        assert (read.returncode, read.stdout) == (1, "")
        assert "Input/output error" in read.stderr, (
            read.stderr,
            (tmp_path / "log").read_text()[-3000:],
        )


class Seen:
    """A mounted image of which files are read."""

    def __init__(
        self, running: lazy.Containerd, diff_ids: list[str], target: Path, digests: dict[str, str]
    ) -> None:
        self._running, self._diff_ids = running, diff_ids
        self._target, self._digests = target, digests
        running.mount(diff_ids, target)

    def use_again(self) -> None:
        """Mount it once more, as for another container."""
        self._running.mount(self._diff_ids, self._target.with_name("again"), "again")

    def is_right(self, name: str) -> bool:
        """Read the file of that name; an error is an I/O error, and never another content."""
        (path,) = (path for path in self._digests if path.endswith(name))
        read = self._running.inside("sha256sum", self._target / path)
        if read.returncode:
            assert "Input/output error" in read.stderr
            return False
        assert f"sha256:{read.stdout.split()[0]}" == self._digests[path]
        return True

    def becomes_right(self, name: str) -> bool:
        """Read until it works, for half a minute."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.is_right(name):
                return True
            time.sleep(0.5)
        return False


@contextmanager
def mounted(
    running: lazy.Containerd, name: str, digest: str, folder: Path, *options: str
) -> Iterator[Seen]:
    """Pull the image lazily, and mount it."""
    pulled = running.ctr("image", "rpull", "--plain-http", *options, name)
    assert pulled.returncode == 0, pulled.stderr
    blobs = folder / BLOBS
    manifest = json.loads(stored(blobs, digest).read_bytes())
    digests: dict[str, str] = {}
    for layer in manifest["layers"]:
        toc = json.loads(toc_of(stored(blobs, layer["digest"]).read_bytes()))
        digests |= {row["name"]: row["digest"] for row in toc["entries"] if "digest" in row}
    yield Seen(running, diff_ids(manifest, blobs), folder / "mounted", digests)


@pytest.fixture
def kept(tiny: Tiny, tiny_dist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The digest of the small image, pushed as eStargz to a registry that does not run now."""
    with registry(tmp_path, keep=True) as address:
        assert main(push_words(tiny, tiny_dist, address)) == 0
    (told,) = json.loads(capsys.readouterr().out)
    return str(told["digest"])


def test_a_registry_that_goes_away_is_an_error_until_it_is_back(
    kept: str, snapshotter: Path, tmp_path: Path
) -> None:
    config = json.loads((tmp_path / "registry.yml").read_text())
    address = config["http"]["addr"]
    log = tmp_path / "registry.log"
    argv = ["docker-registry", "serve", str(log.with_suffix(".yml"))]
    with lazy.containerd(tmp_path, snapshotter) as running, ExitStack() as stack:
        with serving(argv, address, log):
            name = f"{address}/{RUNTIME}"
            seen = stack.enter_context(mounted(running, name, kept, tmp_path))
            assert seen.is_right(READ)
        assert not seen.is_right(UNREAD)
        assert seen.is_right(READ)  # what was read once is here
        with serving(argv, address, log):
            assert seen.becomes_right(UNREAD)


def test_a_token_that_expires_is_an_error_until_the_next_container(
    kept: str, snapshotter: Path, tmp_path: Path
) -> None:
    """This snapshotter (0.12) renews it when the image is used again; newer ones at once."""
    with (
        token_server(tmp_path, USER, PASSWORD, life=4 - GRACE) as tokens,
        registry(tmp_path, **tokens.section) as address,
        lazy.containerd(tmp_path, snapshotter, login=(USER, PASSWORD)) as running,
        mounted(
            running, f"{address}/{RUNTIME}", kept, tmp_path, "--user", f"{USER}:{PASSWORD}"
        ) as seen,
    ):
        assert seen.is_right(READ)
        given = len(tokens.scopes)
        time.sleep(6)
        assert not seen.is_right(UNREAD)
        assert seen.is_right(READ)
        seen.use_again()
        assert seen.becomes_right(UNREAD)
        assert len(tokens.scopes) > given


def toc_of(blob: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as archive:
        file = archive.extractfile(estargz.TOC)
        assert file
        return file.read()
