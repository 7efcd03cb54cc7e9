"""What else may happen to a push: an end at any moment, full disks, wrong clocks, no mounts."""

from __future__ import annotations

import base64
import gc
import hashlib
import json
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny import Tiny

from tests.peers.command import argv, environment, wheelyard
from tests.peers.faulty import Faulty, faulty
from tests.peers.pushed import RUNTIME, assert_whole, digest_there, layout_digest
from tests.peers.registries import PASSWORD, USER, registry
from tests.peers.tokens import token_server
from wheelyard.cli import main
from wheelyard.errors import INTERRUPTED, StorageError
from wheelyard.oci.layout import Layout

pytestmark = pytest.mark.usefixtures("at_nobodys_home", "registry_tools")
DEVEL = f"{RUNTIME}-devel"
# Method, words in the path, and which of these requests is under way when the push ends.
MOMENTS = [
    ("HEAD", "/blobs/", 1),
    ("POST", "/blobs/uploads/", 2),
    ("PUT", "/blobs/", 1),
    ("PUT", "/blobs/", 2),
    ("PUT", "/manifests/sha256", 1),
    ("PUT", "/manifests/2.3", 1),
    ("PUT", "/manifests/2.3", 4),
    ("PUT", "/catalogue/manifests/", 1),
]


@dataclass(frozen=True)
class Sender:
    """The command, as words, and what it sends."""

    tiny: Tiny
    dist: Path
    home: Path

    def words(self, address: str, *more: str | Path) -> list[str]:
        given = ["push", "all", "--registry", f"http://{address}", "--project", self.tiny.folder]
        given += ["--output", self.dist, "--cache-dir", self.home / "cache", *more]
        return list(map(str, given))


@pytest.fixture
def sender(tiny: Tiny, tiny_dist: Path, tmp_path: Path) -> Sender:
    return Sender(tiny, tiny_dist, tmp_path)


@pytest.fixture
def line(address: str) -> Iterator[Faulty]:
    with faulty(address) as found:
        yield found


def tags(address: str) -> list[str]:
    try:
        with urllib.request.urlopen(f"http://{address}/v2/pytorch/tags/list") as answer:
            found: list[str] = json.load(answer)["tags"] or []
    except urllib.error.HTTPError:
        return []
    return found


class TestEndedAtAnyMoment:
    def ended(self, sender: Sender, line: Faulty, moment: tuple[str, str, int], how: int) -> int:
        """The exit code of a push that gets a signal while a request is held."""
        method, words, count = moment
        line.faults, line.always = [(method, words, "slow")], True
        line.begun.clear()
        command = argv(*sender.words(line.address))
        with (sender.home / "said").open("wb") as said:
            process = subprocess.Popen(command, env=environment(sender.home), stderr=said)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.poll() is None:
                if sum(m == method and words in path for m, path in line.begun) >= count:
                    break
                time.sleep(0.005)
            assert process.poll() is None, (sender.home / "said").read_text()
            process.send_signal(how)
            code = process.wait(15)  # at once, on a busy machine
        line.faults = []
        return code

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
    def test_what_has_a_tag_is_whole_and_the_next_push_completes(
        self, sender: Sender, line: Faulty, tmp_path: Path, how: int
    ) -> None:
        """One registry for all moments, from the first look to the catalogue."""
        wanted = -how if how == signal.SIGKILL else INTERRUPTED
        ours = {layout_digest(sender.dist), layout_digest(sender.dist, DEVEL)}
        for moment in MOMENTS:
            assert self.ended(sender, line, moment, how) == wanted, moment
            for tag in tags(line.upstream):
                if not tag.startswith("sha256-"):
                    assert digest_there(line.upstream, f"pytorch:{tag}") in ours, moment
            if moment[:2] == ("PUT", "/blobs/"):
                assert tags(line.upstream) == [], moment
            if digest_there(line.upstream, RUNTIME):
                assert_whole(line.upstream, sender.dist, tmp_path)
        assert main(sender.words(line.address)) == 0
        assert_whole(line.upstream, sender.dist, tmp_path)
        assert digest_there(line.upstream, DEVEL) == layout_digest(sender.dist, DEVEL)


def test_a_registry_that_cannot_mount(
    sender: Sender, line: Faulty, tmp_path: Path, capsys: Any
) -> None:
    """Everything is sent, though a sibling has it."""
    copy = ["skopeo", "copy", "--dest-tls-verify=false", f"oci:{sender.dist}:{RUNTIME}"]
    target = f"docker://{line.upstream}/tensorflow:1"
    subprocess.run([*copy, target], check=True, capture_output=True)
    line.faults, line.always = [("POST", "/blobs/uploads/", "unmounted")], True
    assert main(sender.words(line.address, "--json")) == 0
    first, _second = json.loads(capsys.readouterr().out)
    assert first["mounted_bytes"] == 0
    assert first["sent_bytes"] > 1_000_000
    assert_whole(line.upstream, sender.dist, tmp_path)


@pytest.mark.parametrize("offset", ["-2d", "+2d"])
def test_a_clock_that_is_wrong(
    sender: Sender, need: Callable[..., None], tmp_path: Path, offset: str
) -> None:
    """How long a token holds is counted from its arrival, whatever day it is here."""
    need("faketime")
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    with (
        token_server(tmp_path, USER, PASSWORD) as tokens,
        registry(tmp_path, **tokens.section) as guarded,
    ):
        (tmp_path / ".docker").mkdir()
        config = {"auths": {guarded: {"auth": login}}}
        (tmp_path / ".docker/config.json").write_text(json.dumps(config))
        command = ["faketime", "-f", offset, *argv(*sender.words(guarded))]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=120,
            env=environment(tmp_path),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        there = digest_there(guarded, RUNTIME, "--tls-verify=false", f"--creds={USER}:{PASSWORD}")
        assert there == layout_digest(sender.dist)
        assert len(tokens.scopes) < 20  # a token is not asked for with every request


class TestAFullDiskHere:
    @pytest.fixture
    def disk(self, need_root: None, tmp_path: Path) -> Iterator[Path]:
        """Six megabytes."""
        folder = tmp_path / "disk"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], check=True)
        yield folder
        gc.collect()  # an error's traceback keeps the store and its scratch folder
        subprocess.run(["umount", folder], check=True)

    def grow(self, disk: Path) -> None:
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)

    def test_of_the_cache_while_layers_are_packed(
        self, sender: Sender, disk: Path, address: str, capsys: Any
    ) -> None:
        more = ("--compression", "zstd", "--cache-dir", disk / "cache")
        assert main(sender.words(address, *more)) == StorageError.exit_code
        assert "disk" in capsys.readouterr().err
        assert tags(address) == []
        self.grow(disk)
        assert main(sender.words(address, *more)) == 0
        assert digest_there(address, RUNTIME) is not None

    def test_of_a_bundle_and_of_what_imports_it(
        self, sender: Sender, disk: Path, tmp_path: Path, capsys: Any
    ) -> None:
        words = ["push", "all", "--project", str(sender.tiny.folder), "--output", str(sender.dist)]
        assert main([*words, "--layout", str(disk / "x.tar")]) == StorageError.exit_code
        assert list(disk.iterdir()) == []
        assert main([*words, "--layout", str(tmp_path / "x.tar")]) == 0
        take = ["import", str(tmp_path / "x.tar"), "--no-load", "--output", str(disk / "dist")]
        assert main(take) == StorageError.exit_code
        assert not (disk / "dist/index.json").exists() or not Layout(disk / "dist").references()
        self.grow(disk)
        assert main(take) == 0
        assert Layout(disk / "dist").references()[RUNTIME].digest == layout_digest(sender.dist)


def test_an_import_that_is_killed_leaves_nothing_half_done(sender: Sender, tmp_path: Path) -> None:
    words = ["push", "all", "--project", str(sender.tiny.folder), "--output", str(sender.dist)]
    assert main([*words, "--layout", str(tmp_path / "x.tar")]) == 0
    take = ["import", str(tmp_path / "x.tar"), "--no-load", "--output", str(tmp_path / "dist")]
    for count in (1, 3, 6):
        command = argv(*take, "--quiet")
        process = subprocess.Popen(command, env=environment(tmp_path), stdout=subprocess.DEVNULL)
        while process.poll() is None:
            if len(list(tmp_path.glob("dist/blobs/sha256/*"))) >= count:
                process.kill()
                break
        process.wait(30)
        for blob in tmp_path.glob("dist/blobs/sha256/*"):
            if len(blob.name) == 64:  # finished, by its name
                assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    done = wheelyard(take, tmp_path)
    assert done.returncode == 0, done.stderr
    there = Layout(tmp_path / "dist").references()[RUNTIME].digest
    assert there == layout_digest(sender.dist)
