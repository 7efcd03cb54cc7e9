"""Publishing to Debian's docker-registry: whole, again, over a bad line, and with every login."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trustme
from tiny import Tiny, make_tiny, write_lock
from wheels import make_wheel

from tests.peers.command import argv, environment
from tests.peers.faulty import Fault, Faulty, faulty
from tests.peers.pushed import RUNTIME, assert_whole, digest_there, layout_digest
from tests.peers.registries import PASSWORD, USER, registry, with_passwords, with_tls
from tests.peers.tokens import token_server
from wheelyard.cli import main
from wheelyard.console.progress import QuietReporter
from wheelyard.errors import InspectError, RegistryError, StorageError, UsageError
from wheelyard.images.build.build import build_images
from wheelyard.lock.lockfile import read_requirements_lock
from wheelyard.oci.address import parse_address
from wheelyard.oci.layout import Layout
from wheelyard.publish.published import publications
from wheelyard.registry import upload
from wheelyard.registry.client import open_registry
from wheelyard.registry.push import image_blobs, push_image

pytestmark = pytest.mark.usefixtures("at_nobodys_home", "registry_tools")


@pytest.fixture
def push(tiny: Tiny, tiny_dist: Path, tmp_path: Path) -> Callable[..., int]:
    """The command on the small images; its exit code."""

    def call(*words: str | Path) -> int:
        given = ["push", "--project", tiny.folder, "--output", tiny_dist, "--timeout", 5]
        return main([*map(str, given), "--cache-dir", str(tmp_path / "cache"), *map(str, words)])

    return call


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pieces, short waits."""
    monkeypatch.setattr(upload, "PIECE", 200_000)
    monkeypatch.setattr(upload, "SMALLEST", 50_000)
    monkeypatch.setattr("wheelyard.fetching.patience.random.uniform", lambda low, high: 0.02)


@pytest.fixture
def line(address: str) -> Iterator[Faulty]:
    """A bad line to the registry."""
    with faulty(address) as found:
        yield found


def results(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


class TestPush:
    def test_images_arrive_with_all_their_tags(
        self, push: Callable[..., int], address: str, tiny_dist: Path, capsys: Any
    ) -> None:
        assert push("all", "--registry", f"http://{address}/team/gpu", "--json") == 0
        seen = results(capsys)
        assert len(seen) == 2
        for image in seen:
            assert len(image["references"]) == len(image["moved"]) > 1
            for reference in image["references"]:
                host, _, rest = reference.partition("/")
                assert digest_there(host, rest) == image["digest"]
        first, second = seen
        assert first["sent_bytes"] > second["present_bytes"] > 0

    def test_a_second_push_sends_nothing_and_moves_nothing(
        self, push: Callable[..., int], line: Faulty, capsys: Any
    ) -> None:
        where = ("all", "--registry", f"http://{line.address}", "--json")
        assert push(*where) == 0
        capsys.readouterr()
        before = line.sent_bytes()
        assert push(*where) == 0
        assert all(x["sent_bytes"] == 0 and x["moved"] == [] for x in results(capsys))
        assert line.sent_bytes() == before

    def test_blobs_of_a_sibling_repository_are_mounted(
        self, tiny: Tiny, line: Faulty, tiny_dist: Path, tmp_path: Path
    ) -> None:
        """Another repository is filled by somebody else's copy."""
        copy = ["skopeo", "copy", "--dest-tls-verify=false", f"oci:{tiny_dist}:{RUNTIME}"]
        target = f"docker://{line.upstream}/other:1"
        subprocess.run([*copy, target], check=True, capture_output=True)
        layout = Layout(tiny_dist)
        cell = tiny.cell("runtime")
        (image,) = publications(layout, [cell], only_built=False, unverified=False)
        where = parse_address(f"http://{line.address}")
        with open_registry(where, tiny.context.settings, QuietReporter(None)) as opened:
            done = push_image(opened, layout, image, ["other", "pytorch"], tmp_path)
        assert done.sent == 0
        assert done.mounted == sum(
            blob.size for blob in image_blobs(layout, layout.read_json(image.manifest))
        )
        assert_whole(line.upstream, tiny_dist, tmp_path)

    def test_two_pushes_at_once_send_a_blob_once(
        self, tiny: Tiny, tiny_dist: Path, line: Faulty, tmp_path: Path
    ) -> None:
        words = ["push", "runtime", "--registry", f"http://{line.address}", "--no-attest"]
        words += ["--project", str(tiny.folder), "--output", str(tiny_dist)]
        command = argv(*words, "--cache-dir", tmp_path / "cache")
        both = [
            subprocess.Popen(command, env=environment(tmp_path), stderr=subprocess.PIPE)
            for _ in range(2)
        ]
        for process in both:
            assert process.wait(60) == 0, process.communicate()
            assert process.stderr is not None
            process.stderr.close()
        assert_whole(line.upstream, tiny_dist, tmp_path)
        whole = sum(path.stat().st_size for path in (tiny_dist / "blobs/sha256").iterdir())
        assert line.sent_bytes() < 1.5 * whole

    def test_the_table_is_for_people(
        self, push: Callable[..., int], address: str, capsys: Any
    ) -> None:
        assert push("runtime", "--registry", f"http://{address}") == 0
        said = capsys.readouterr()
        assert said.out.splitlines()[0].split()[:3] == ["image", "digest", "sent"]
        assert "push pytorch-2.3.1" in said.err


class TestTheCatalogue:
    def test_pick_needs_nothing_but_the_registry(
        self,
        push: Callable[..., int],
        address: str,
        tiny_dist: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: Any,
    ) -> None:
        where = ("--registry", f"http://{address}/team")
        for selector in ("devel", "runtime"):  # the second push adds to the first one's
            assert push(selector, *where) == 0
        capsys.readouterr()
        monkeypatch.chdir(tmp_path)
        assert main(["pick", *where, "--driver", "535.104", "--gpu", "sm_90", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["image"] == f"{address}/team/{RUNTIME}"
        assert (
            found["digest"] == layout_digest(tiny_dist) == digest_there(address, f"team/{RUNTIME}")
        )
        assert found["pull_bytes"] == found["image_bytes"] > 1_000_000
        assert main(["pick", *where, "--driver", "535.104", "--flavour", "devel", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["digest"] == layout_digest(
            tiny_dist, f"{RUNTIME}-devel"
        )

    def test_a_registry_without_one(
        self, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        monkeypatch.chdir(tmp_path)
        words = ["pick", "--driver", "535.104", "--registry", f"http://{address}"]
        assert main(words) == RegistryError.exit_code
        assert "no catalogue" in capsys.readouterr().err


class TestAttachments:
    """docker-registry knows no referrers, so they are listed under a tag of the digest's name."""

    def attached(self, host: str, digest: str) -> dict[str, dict[str, Any]]:
        """Every document that is listed for a digest, by what it is."""
        found = {}
        for entry in self.listed(host, digest):
            manifest = self.get(host, "manifests", entry["digest"])
            assert manifest["subject"]["digest"] == digest
            blob = self.get(host, "blobs", manifest["layers"][0]["digest"])
            found[blob.get("predicateType", manifest["artifactType"])] = blob
        return found

    def listed(self, host: str, digest: str) -> list[dict[str, Any]]:
        index = self.get(host, "manifests", digest.replace(":", "-"))
        assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
        return list(index["manifests"])

    def get(self, host: str, kind: str, reference: str) -> dict[str, Any]:
        accept = ", ".join(f"application/vnd.oci.image.{x}.v1+json" for x in ("index", "manifest"))
        url = f"http://{host}/v2/pytorch/{kind}/{reference}"
        request = urllib.request.Request(url, headers={"Accept": accept})
        with urllib.request.urlopen(request) as response:
            content: dict[str, Any] = json.loads(response.read())
        return content

    def test_contents_origin_and_verification(
        self, push: Callable[..., int], tiny: Tiny, address: str, tiny_dist: Path, capsys: Any
    ) -> None:
        where = ("--registry", f"http://{address}")
        cache = ("--cache-dir", tiny.context.settings.cache_dir)
        assert push("runtime", *where, *cache) == 0
        digest = layout_digest(tiny_dist)
        found = self.attached(address, digest)
        lock = read_requirements_lock(tiny.folder / tiny.cell("runtime").lock)
        bill = found.pop("application/vnd.cyclonedx+json")
        hashes = {x["hashes"][0]["content"] for x in bill["components"]}
        assert {wheel.sha256 for wheel in lock.wheels} < hashes
        assert bill["metadata"]["component"]["version"] == digest
        assert len(found) == 2
        for statement in found.values():
            assert statement["subject"][0]["digest"]["sha256"] == digest.partition(":")[2]
        tested = found["https://in-toto.io/attestation/test-result/v0.1"]["predicate"]
        assert tested["seen"]["CUDA"] == "12.1"

        assert push("runtime", *where, *cache) == 0
        assert len(self.listed(address, digest)) == 3
        assert "no documents were attached" not in capsys.readouterr().err

    def test_nothing_is_said_of_an_image_that_cannot_be_compared(
        self, push: Callable[..., int], address: str, tiny_dist: Path, capsys: Any
    ) -> None:
        """Its layers are not in this cache."""
        assert push("runtime", "--registry", f"http://{address}") == 0
        assert "no documents were attached" in capsys.readouterr().err
        with pytest.raises(urllib.error.HTTPError):
            self.listed(address, layout_digest(tiny_dist))

    def test_nor_of_one_whose_lock_has_changed(
        self, push: Callable[..., int], tmp_path: Path, address: str, capsys: Any
    ) -> None:
        tiny = make_tiny(tmp_path / "own")
        build_images([tiny.cell("runtime")], tiny.plan, tmp_path / "own/dist", tiny.context)
        kept = [wheel for name, wheel in tiny.wheels.items() if name not in ("torch", "demo")]
        newer = make_wheel(tmp_path, "torch", "2.3.1.post1", {"torch/__init__.py": ""})
        write_lock(tiny, tiny.cell("runtime"), [*kept, newer])
        words = ["push", "runtime", "--registry", f"http://{address}", "--project", tiny.folder]
        words += ["--output", tmp_path / "own/dist", "--cache-dir", tiny.context.settings.cache_dir]
        assert main([*map(str, words)]) == 0
        assert "built from other locks" in capsys.readouterr().err


class TestABadLine:
    @pytest.mark.parametrize("fault", ["drop", "mute", "429", "500", "503", "slow", "flip"])
    def test_a_push_gets_through(
        self,
        push: Callable[..., int],
        quick: None,
        line: Faulty,
        tiny_dist: Path,
        tmp_path: Path,
        fault: Fault,
    ) -> None:
        for method in ("HEAD", "POST", "PATCH", "PUT"):
            without_body = fault in ("drop", "flip") and method in ("HEAD", "POST")
            line.faults += [(method, "/blobs/", "mute" if without_body else fault)] * 3
        assert push("runtime", "--registry", f"http://{line.address}") == 0
        assert line.faults == []
        assert_whole(line.upstream, tiny_dist, tmp_path)

    @pytest.mark.parametrize("fault", ["drop", "mute", "429", "500"])
    def test_manifests_and_tags_too(
        self, push: Callable[..., int], quick: None, line: Faulty, tiny_dist: Path, fault: Fault
    ) -> None:
        line.faults += [("PUT", "/manifests/", fault)] * 4
        assert push("runtime", "--registry", f"http://{line.address}") == 0
        assert digest_there(line.upstream, RUNTIME) == layout_digest(tiny_dist)

    @pytest.mark.parametrize("where", ["/blobs/", "/manifests/sha256", "/manifests/2.3.1-cuda"])
    def test_a_push_that_breaks_leaves_the_old_tag(
        self,
        push: Callable[..., int],
        quick: None,
        line: Faulty,
        tiny_dist: Path,
        tmp_path: Path,
        where: str,
        capsys: Any,
    ) -> None:
        old = ["skopeo", "copy", "--dest-tls-verify=false"]
        devel = layout_digest(tiny_dist, f"{RUNTIME}-devel")
        source, target = f"oci:{tiny_dist}:{RUNTIME}-devel", f"docker://{line.upstream}/{RUNTIME}"
        subprocess.run([*old, source, target], check=True, capture_output=True)
        line.faults, line.always = [("PUT", where, "500"), ("PATCH", where, "500")], True
        assert push("runtime", "--registry", f"http://{line.address}") == RegistryError.exit_code
        assert "gave up after 6 attempts" in capsys.readouterr().err
        assert digest_there(line.upstream, RUNTIME) == devel
        line.faults = []
        assert push("runtime", "--registry", f"http://{line.address}") == 0
        assert_whole(line.upstream, tiny_dist, tmp_path)

    def test_pieces_that_arrived_are_not_sent_again(
        self, push: Callable[..., int], quick: None, line: Faulty, tiny_dist: Path, capsys: Any
    ) -> None:
        """The next run goes on with an upload that a broken one left."""
        line.faults, line.always = [("PUT", "/blobs/", "500")], True
        assert push("runtime", "--registry", f"http://{line.address}") == RegistryError.exit_code
        first, line.faults = line.sent_bytes(), []
        capsys.readouterr()
        assert push("runtime", "--registry", f"http://{line.address}", "--json") == 0
        sent = results(capsys)[-1]["sent_bytes"]
        assert line.sent_bytes() - first < sent
        asked = [path for method, path, _ in line.requests if method == "GET" and "uploads" in path]
        assert asked


class TestLogins:
    def log_in(self, home: Path, config: dict[str, Any]) -> None:
        (home / ".docker").mkdir(exist_ok=True)
        (home / ".docker/config.json").write_text(json.dumps(config))

    def login(self, host: str, password: str = PASSWORD) -> dict[str, Any]:
        text = base64.b64encode(f"{USER}:{password}".encode()).decode()
        return {"auths": {host: {"auth": text}}}

    @pytest.fixture
    def guarded(self, tmp_path: Path) -> Iterator[str]:
        with registry(tmp_path, **with_passwords(tmp_path)) as found:
            yield found

    def credentials(self) -> Sequence[str]:
        return ("--tls-verify=false", f"--creds={USER}:{PASSWORD}")

    def test_without_one(self, push: Callable[..., int], guarded: str, capsys: Any) -> None:
        assert push("runtime", "--registry", f"http://{guarded}") == RegistryError.exit_code
        assert f"wheelyard login {guarded}" in capsys.readouterr().err

    def test_a_wrong_one_is_not_repeated(
        self, push: Callable[..., int], guarded: str, tmp_path: Path, capsys: Any
    ) -> None:
        self.log_in(tmp_path, self.login(guarded, "wrong-word"))
        with faulty(guarded) as line:
            self.log_in(tmp_path, self.login(line.address, "wrong-word"))
            code = push("runtime", "--registry", f"http://{line.address}")
            assert code == RegistryError.exit_code
            assert len(line.requests) < 40
        said = capsys.readouterr().err
        assert "HTTP 401" in said
        assert "wrong-word" not in said

    def test_from_dockers_config(
        self, push: Callable[..., int], guarded: str, tiny_dist: Path, tmp_path: Path
    ) -> None:
        self.log_in(tmp_path, self.login(guarded))
        assert push("runtime", "--registry", f"http://{guarded}") == 0
        assert digest_there(guarded, RUNTIME, *self.credentials()) == layout_digest(tiny_dist)

    def test_from_wheelyard_login(
        self,
        push: Callable[..., int],
        guarded: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """What the registry refuses is not kept; what it accepts others find, too."""
        where = f"http://{guarded}"
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
        words = ["login", where, "--username", USER, "--password-stdin"]
        monkeypatch.setattr("sys.stdin", io.StringIO("wrong-word\n"))
        assert main(words) == RegistryError.exit_code
        assert "wrong-word" not in capsys.readouterr().err
        assert not (tmp_path / "config").exists()
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
        assert main([*words, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["kept"] == str(tmp_path / "config/config.json")
        assert push("runtime", "--registry", where) == 0
        argv = ["skopeo", "inspect", "--tls-verify=false", f"docker://{guarded}/{RUNTIME}"]
        file = {"REGISTRY_AUTH_FILE": said["kept"]}
        assert subprocess.run(argv, check=False, env=os.environ | file).returncode == 0
        monkeypatch.setattr("sys.stdin", io.StringIO("x"))
        assert main(["login", where]) == UsageError.exit_code  # no terminal to ask

    def test_from_a_credential_helper(
        self,
        push: Callable[..., int],
        guarded: str,
        tiny_dist: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        helper = tmp_path / "bin" / "docker-credential-test"
        helper.parent.mkdir()
        answer = json.dumps({"ServerURL": guarded, "Username": USER, "Secret": PASSWORD})
        helper.write_text(f"#!/bin/sh\nread host; test \"$host\" = {guarded} && echo '{answer}'\n")
        helper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
        self.log_in(tmp_path, {"credsStore": "test"})
        assert push("runtime", "--registry", f"http://{guarded}") == 0
        assert digest_there(guarded, RUNTIME, *self.credentials()) == layout_digest(tiny_dist)

    def test_by_tokens(self, push: Callable[..., int], tmp_path: Path, tiny_dist: Path) -> None:
        """A token server of its own signs what the login may do."""
        with (
            token_server(tmp_path, USER, PASSWORD) as tokens,
            registry(tmp_path, **tokens.section) as guarded,
        ):
            where = ("--registry", f"http://{guarded}")
            assert push("runtime", *where) == RegistryError.exit_code
            self.log_in(tmp_path, self.login(guarded))
            assert push("all", *where) == 0
            digest = digest_there(guarded, RUNTIME, *self.credentials())
            assert digest == layout_digest(tiny_dist)
            assert "repository:pytorch:pull,push" in tokens.scopes


class TestTrust:
    @pytest.fixture
    def ca(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    def secure(self, tmp_path: Path, ca: trustme.CA) -> Iterator[str]:
        with registry(tmp_path, **with_tls(tmp_path, ca)) as found:
            yield found

    def test_a_ca_of_ones_own(
        self, push: Callable[..., int], secure: str, ca: trustme.CA, tmp_path: Path, tiny_dist: Path
    ) -> None:
        ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        assert push("runtime", "--registry", secure, "--ca-bundle", tmp_path / "ca.pem") == 0
        assert digest_there(secure, RUNTIME) == layout_digest(tiny_dist)

    def test_an_unknown_ca_is_refused(
        self, push: Callable[..., int], secure: str, capsys: Any
    ) -> None:
        assert push("runtime", "--registry", secure) == RegistryError.exit_code
        assert "--ca-bundle" in capsys.readouterr().err
        assert digest_there(secure, RUNTIME) is None

    def test_plain_http_is_not_fallen_back_to(
        self, push: Callable[..., int], line: Faulty, capsys: Any
    ) -> None:
        assert push("runtime", "--registry", line.address) == RegistryError.exit_code
        assert f"http://{line.address}" in capsys.readouterr().err
        assert line.requests == []


class TestWhatIsRefused:
    def test_a_read_only_registry(
        self, push: Callable[..., int], tmp_path: Path, capsys: Any
    ) -> None:
        storage = {
            "filesystem": {"rootdirectory": f"{tmp_path}/registry"},
            "maintenance": {"readonly": {"enabled": True}},
        }
        with registry(tmp_path, storage=storage) as address:
            assert push("runtime", "--registry", f"http://{address}") == RegistryError.exit_code
        assert "does not accept pushes" in capsys.readouterr().err

    def test_a_registry_whose_disk_is_full(
        self,
        push: Callable[..., int],
        quick: None,
        need_root: None,
        tmp_path: Path,
        tiny_dist: Path,
        capsys: Any,
    ) -> None:
        """Once there is room, the same command completes."""
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o"]
        subprocess.run([*mount, "size=4m", "tmpfs", disk], check=True)
        try:
            storage = {"filesystem": {"rootdirectory": f"{disk}/registry"}}
            with registry(tmp_path, storage=storage) as address:
                where = ("runtime", "--registry", f"http://{address}")
                assert push(*where) == RegistryError.exit_code
                assert "no space left on device" in capsys.readouterr().err
                assert digest_there(address, RUNTIME) is None
                subprocess.run([*mount, "remount,size=64m", disk], check=True)
                assert push(*where) == 0
                assert_whole(address, tiny_dist, tmp_path)
        finally:
            subprocess.run(["umount", disk], check=True)

    def test_a_damaged_blob_is_named(
        self, push: Callable[..., int], quick: None, address: str, tiny_dist: Path, capsys: Any
    ) -> None:
        manifest = json.loads(
            (tiny_dist / "blobs" / layout_digest(tiny_dist).replace(":", "/")).read_text()
        )
        blob = tiny_dist / "blobs" / manifest["layers"][0]["digest"].replace(":", "/")
        whole = blob.read_bytes()
        blob.unlink()  # the cache has the other link
        try:
            blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
            assert push("runtime", "--registry", f"http://{address}") == StorageError.exit_code
            assert str(blob) in capsys.readouterr().err
            blob.write_bytes(whole[:-1])
            assert push("runtime", "--registry", f"http://{address}") == StorageError.exit_code
        finally:
            blob.write_bytes(whole)
        assert digest_there(address, RUNTIME) is None

    def test_an_image_that_was_not_verified(
        self, push: Callable[..., int], address: str, tiny_dist: Path, capsys: Any
    ) -> None:
        report = tiny_dist / "build.json"
        text = report.read_text()
        try:
            report.unlink()
            where = ("runtime", "--registry", f"http://{address}")
            assert push(*where) == InspectError.exit_code
            assert "--unverified" in capsys.readouterr().err
            assert push(*where, "--unverified") == 0
        finally:
            report.write_text(text)
