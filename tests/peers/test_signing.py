"""Signed by us and by Debian trixie's cosign, each held against the other, in docker-registry."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tiny import Tiny

from tests.engines.trixie import started_from
from tests.peers.project import REPOSITORY
from tests.peers.registries import registry
from wheelyard.cli import main
from wheelyard.errors import RegistryError, SettingsError, SignatureError
from wheelyard.oci.address import parse_address
from wheelyard.oci.layout import canonical
from wheelyard.planning.catalogue import to_json
from wheelyard.publish.attest.cosign import attestation_tag, signature_tag
from wheelyard.publish.attest.keys import PASSPHRASE
from wheelyard.publish.catalogue import TYPE, fetch_catalogue, publish_catalogue
from wheelyard.registry.artifact import put_blob
from wheelyard.registry.client import open_registry

pytestmark = pytest.mark.usefixtures("at_nobodys_home")

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MACHINE = ("--driver", "535.104", "--cuda", "12")
WORD = "open sesame"


@dataclass(frozen=True)
class Place:
    """A registry with the small images, a cosign, and a folder with keys."""

    address: str
    folder: Path
    tiny: Tiny
    dist: Path
    cosign: tuple[str, ...]

    @property
    def repository(self) -> str:
        return f"{self.address}/team/pytorch"

    def push(self, *words: str | Path) -> int:
        given = ["push", "all", "--registry", f"http://{self.address}/team", "--quiet"]
        given += ["--project", str(self.tiny.folder), "--output", str(self.dist)]
        given += ["--cache-dir", str(self.tiny.context.settings.cache_dir)]
        return main([*given, *map(str, words)])

    def pick(self, key: str) -> int:
        where = ["--registry", f"http://{self.address}/team"]
        verify = ["--verify-key", str(self.folder / key)]
        return main(["pick", *where, *MACHINE, "--json", *verify])

    def digest(self, flavour: str) -> str:
        images = json.loads((self.dist / "build.json").read_text())["images"]
        name = self.tiny.cell(flavour).id
        return next(str(image["digest"]) for image in images if image["id"] == name)

    def ask_cosign(self, *words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.cosign, *map(str, words)],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={**os.environ, "COSIGN_PASSWORD": WORD, **env},
            timeout=60,
        )

    def verified_by_cosign(self, key: str, digest: str, image: str = "") -> bool:
        """`image`: as it is named to cosign, else by its digest."""
        offline = ("--insecure-ignore-tlog", "--allow-insecure-registry")
        name = image or f"{self.repository}@{digest}"
        done = self.ask_cosign("verify", "--key", self.folder / key, *offline, name)
        if done.returncode:
            assert "signature" in done.stderr, done.stderr
            return False
        (said, *_more) = json.loads(done.stdout)
        assert said["critical"]["image"]["docker-manifest-digest"] == digest
        return True

    def statement(self, key: str, kind: str, digest: str) -> dict[str, Any] | None:
        """What cosign has found a signed statement to say; None: there is none by the key."""
        offline = ("--insecure-ignore-tlog", "--allow-insecure-registry")
        asked = ("--key", self.folder / key, "--type", kind, *offline)
        done = self.ask_cosign("verify-attestation", *asked, f"{self.repository}@{digest}")
        if done.returncode:
            assert "no matching attestations" in done.stderr, done.stderr
            return None
        (line,) = done.stdout.splitlines()
        found: dict[str, Any] = json.loads(base64.b64decode(json.loads(line)["payload"]))
        return found

    def sign_with_cosign(self, digest: str) -> None:
        self.ask_cosign_to_sign(f"{self.repository}@{digest}")
        self.ask_cosign_to_sign(f"{self.address}/team/catalogue:latest")

    def ask_cosign_to_sign(self, image: str) -> None:
        how = ("--key", "cosign.key", "--tlog-upload=false", "--yes", "--allow-insecure-registry")
        done = self.ask_cosign("sign", *how, image)
        assert done.returncode == 0, done.stderr

    def manifest(self, tag: str, repository: str = "pytorch") -> Any:
        url = f"http://{self.address}/v2/team/{repository}/manifests/{tag}"
        asked = urllib.request.Request(url, headers={"Accept": MANIFEST})
        with urllib.request.urlopen(asked) as answer:
            return json.load(answer)

    def put_manifest(self, tag: str, manifest: Any, repository: str = "pytorch") -> str:
        """Its digest."""
        url = f"http://{self.address}/v2/team/{repository}/manifests/{tag}"
        data, told = json.dumps(manifest).encode(), {"Content-Type": MANIFEST}
        asked = urllib.request.Request(url, data, told, method="PUT")
        with urllib.request.urlopen(asked) as answer:
            return str(answer.headers["Docker-Content-Digest"])

    def signatures(self, digest: str) -> Any:
        return self.manifest(signature_tag(digest))


def make_keys(folder: Path) -> None:
    """By openssl, as the error messages say: ours, encrypted, and a stranger's."""
    generate: list[str] = [
        "openssl",
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]
    locked = ["-aes256", "-pass", f"pass:{WORD}"]
    for name, more in (("ours", locked), ("stranger", [])):
        private, public = f"{folder}/{name}.pem", f"{folder}/{name}.pub"
        subprocess.run([*generate, *more, "-out", private], check=True, capture_output=True)
        out = ["openssl", "pkey", "-in", private, "-passin", f"pass:{WORD}", "-pubout"]
        subprocess.run([*out, "-out", public], check=True, capture_output=True)


@pytest.fixture(scope="module")
def keys(
    trixie_tools: Path, need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with cosign's pair as well."""
    need("openssl")
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder)
    cosign = started_from(trixie_tools, "usr/bin/cosign")
    env = {**os.environ, "COSIGN_PASSWORD": WORD}
    make = [*cosign, "generate-key-pair"]
    subprocess.run(make, check=True, capture_output=True, cwd=folder, env=env)
    return folder


@pytest.fixture
def place(
    tiny: Tiny,
    tiny_dist: Path,
    trixie_tools: Path,
    need: Callable[..., None],
    keys: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    need("docker-registry")
    shutil.copytree(keys, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv(PASSPHRASE, WORD)
    with registry(tmp_path) as address:
        cosign = tuple(started_from(trixie_tools, "usr/bin/cosign"))
        yield Place(address, tmp_path, tiny, tiny_dist, cosign)


@pytest.fixture
def signed(place: Place) -> Place:
    """Both images are there, signed by us."""
    assert place.push("--sign-key", place.folder / "ours.pem") == 0
    return place


def test_cosign_takes_our_signature(signed: Place) -> None:
    for flavour in ("runtime", "devel"):
        assert signed.verified_by_cosign("ours.pub", signed.digest(flavour))
        assert not signed.verified_by_cosign("stranger.pub", signed.digest(flavour))


def test_what_we_signed_is_picked_by_its_digest(signed: Place, capsys: Any) -> None:
    assert signed.pick("ours.pub") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["image"] == f"{signed.repository}@{signed.digest('runtime')}"
    assert found["image"] in found["run"]
    assert signed.pick("stranger.pub") == SignatureError.exit_code
    said = capsys.readouterr()
    assert "another key" in said.err
    assert said.out == ""


def test_a_second_push_signs_nothing_again(signed: Place) -> None:
    before = signed.signatures(signed.digest("runtime"))
    assert signed.push("--sign-key", signed.folder / "ours.pem") == 0
    assert signed.signatures(signed.digest("runtime")) == before


def test_without_a_signature_both_refuse(place: Place, capsys: Any) -> None:
    assert place.push() == 0
    assert not place.verified_by_cosign("ours.pub", place.digest("runtime"))
    assert place.pick("ours.pub") == SignatureError.exit_code
    assert "there is none" in capsys.readouterr().err


def test_what_cosign_signed_is_picked(place: Place, capsys: Any) -> None:
    assert place.push() == 0
    place.sign_with_cosign(place.digest("runtime"))
    assert place.pick("cosign.pub") == 0
    assert place.digest("runtime") in capsys.readouterr().out
    assert place.pick("ours.pub") == SignatureError.exit_code


@pytest.mark.parametrize("ours_first", [True, False])
def test_signatures_of_both_stand_side_by_side(place: Place, ours_first: bool) -> None:
    ours = ("--sign-key", place.folder / "ours.pem")
    assert place.push(*(ours if ours_first else ())) == 0
    place.sign_with_cosign(place.digest("runtime"))
    if not ours_first:
        assert place.push(*ours) == 0
    place.ask_cosign_to_sign(f"{place.address}/team/catalogue:latest")
    for key in ("ours.pub", "cosign.pub"):
        assert place.verified_by_cosign(key, place.digest("runtime"))
        assert place.pick(key) == 0


def test_a_signature_of_another_image_is_refused_by_both(signed: Place, capsys: Any) -> None:
    runtime, devel = signed.digest("runtime"), signed.digest("devel")
    signed.put_manifest(signature_tag(runtime), signed.signatures(devel))
    assert not signed.verified_by_cosign("ours.pub", runtime)
    assert signed.pick("ours.pub") == SignatureError.exit_code
    assert f"over another image, {devel}" in capsys.readouterr().err


def test_a_changed_signature_is_refused_by_both(signed: Place) -> None:
    runtime, devel = signed.digest("runtime"), signed.digest("devel")
    mixed = signed.signatures(runtime)
    mixed["layers"][0]["annotations"] = signed.signatures(devel)["layers"][0]["annotations"]
    signed.put_manifest(signature_tag(runtime), mixed)
    assert not signed.verified_by_cosign("ours.pub", runtime)
    assert signed.pick("ours.pub") == SignatureError.exit_code


def test_a_changed_image_is_refused_by_both(signed: Place, capsys: Any) -> None:
    """Somebody who may write there moves the tag, and the catalogue with it."""
    tag = signed.tiny.cell("runtime").tags[0].partition(":")[2]
    changed = signed.manifest(tag) | {"annotations": {"by": "a stranger"}}
    digest = signed.put_manifest(tag, changed)
    assert not signed.verified_by_cosign("ours.pub", digest, f"{signed.repository}:{tag}")
    address = parse_address(f"http://{signed.address}/team")
    context = signed.tiny.context
    with open_registry(address, context.settings, context.reporter) as opened:
        entries = fetch_catalogue(opened) or ()
        moved = [replace(x, digest=digest) if x.flavour == "runtime" else x for x in entries]
        with pytest.raises(RegistryError, match="push with --sign-key"):
            publish_catalogue(opened, moved)
        listing = signed.manifest("latest", "catalogue")
        content = canonical(to_json(moved, 1 << 60))
        listing["layers"] = [put_blob(opened, "team/catalogue", content) | {"mediaType": TYPE}]
        signed.put_manifest("latest", listing, "catalogue")
        assert fetch_catalogue(opened) == tuple(moved)
    capsys.readouterr()
    assert signed.pick("ours.pub") == SignatureError.exit_code
    assert "has no signature by this key: there is none" in capsys.readouterr().err


def test_cosign_takes_the_catalogues_signature(signed: Place) -> None:
    manifest = signed.manifest("latest", "catalogue")
    digest = "sha256:" + hashlib.sha256(canonical(manifest)).hexdigest()
    image = f"{signed.address}/team/catalogue:latest"
    assert signed.verified_by_cosign("ours.pub", digest, image)
    assert not signed.verified_by_cosign("stranger.pub", digest, image)


def test_a_copy_of_a_registry_is_taken_under_the_name_it_was_signed_as(
    signed: Place, need: Callable[..., None], capsys: Any, tmp_path_factory: Any
) -> None:
    """By skopeo, with the signatures, as mirrors are made."""
    need("skopeo")
    with registry(tmp_path_factory.mktemp("copy")) as address:
        for name in ("pytorch", "catalogue"):
            sync = ["skopeo", "sync", "--src=docker", "--dest=docker", "--src-tls-verify=false"]
            places = [f"{signed.address}/team/{name}", f"{address}/mirror"]
            subprocess.run([*sync, "--dest-tls-verify=false", *places], check=True)
        copy = replace(signed, address=address)
        words = ["pick", *MACHINE, "--registry", f"http://{address}/mirror", "--json"]
        words += ["--verify-key", str(signed.folder / "ours.pub")]
        capsys.readouterr()
        assert main(words) == SignatureError.exit_code
        assert "--signed-as HOST/PREFIX" in capsys.readouterr().err
        assert main([*words, "--signed-as", f"{signed.address}/team"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["image"].startswith(f"{copy.address}/mirror/pytorch@sha256:")


KINDS = {
    "cyclonedx": "https://cyclonedx.org/bom",
    "slsaprovenance1": "https://slsa.dev/provenance/v1",
    "https://in-toto.io/attestation/test-result/v0.1": (
        "https://in-toto.io/attestation/test-result/v0.1"
    ),
}


def test_cosign_takes_our_signed_statements(signed: Place) -> None:
    """Bill of materials, provenance and verification, by cosign's own names for them."""
    for flavour in ("runtime", "devel"):
        digest = signed.digest(flavour)
        for kind, predicate in KINDS.items():
            found = signed.statement("ours.pub", kind, digest)
            assert found is not None
            assert found["predicateType"] == predicate
            assert found["subject"][0]["digest"] == {"sha256": digest.partition(":")[2]}
            assert signed.statement("stranger.pub", kind, digest) is None
    bill = signed.statement("ours.pub", "cyclonedx", signed.digest("runtime"))
    assert bill is not None
    assert "torch" in {one["name"] for one in bill["predicate"]["components"]}


def test_statements_are_signed_once_and_beside_others(place: Place) -> None:
    """Also where they were attached before, without a key."""
    assert place.push() == 0
    digest = place.digest("runtime")
    (place.folder / "theirs.json").write_text("{}")
    how = ("--key", "cosign.key", "--tlog-upload=false", "--yes", "--allow-insecure-registry")
    what = ("--type", "cyclonedx", "--predicate", "theirs.json")
    done = place.ask_cosign("attest", *how, *what, f"{place.repository}@{digest}")
    assert done.returncode == 0, done.stderr
    for _ in range(2):
        assert place.push("--sign-key", place.folder / "ours.pem") == 0
        assert len(place.manifest(attestation_tag(digest))["layers"]) == 1 + len(KINDS)
    for key, wanted in (("ours.pub", True), ("cosign.pub", False)):
        found = place.statement(key, "cyclonedx", digest)
        assert found is not None
        assert ("components" in found["predicate"]) == wanted


def test_statements_about_another_image_are_refused(signed: Place) -> None:
    """cosign notices; and the next push signs what is missing."""
    runtime, devel = signed.digest("runtime"), signed.digest("devel")
    signed.put_manifest(attestation_tag(runtime), signed.manifest(attestation_tag(devel)))
    assert signed.statement("ours.pub", "cyclonedx", runtime) is None
    assert signed.push("--sign-key", signed.folder / "ours.pem") == 0
    assert signed.statement("ours.pub", "cyclonedx", runtime) is not None


class TestAsReferrers:
    """cosign's later places for signatures, in registries with and without the API."""

    @pytest.fixture(params=["tags", "api"])
    def elsewhere(
        self, place: Place, request: pytest.FixtureRequest, with_referrers: str, capsys: Any
    ) -> Place:
        found = place if request.param == "tags" else replace(place, address=with_referrers)
        assert found.push() == 0
        found.ask_cosign_to_sign(f"{found.address}/team/catalogue:latest")
        assert found.pick("cosign.pub") == SignatureError.exit_code
        capsys.readouterr()
        return found

    def attach(self, place: Place, command: str, *words: str, **env: str) -> None:
        image = f"{place.repository}@{place.digest('runtime')}"
        how = ("--key", "cosign.key", "--tlog-upload=false", "--yes", "--allow-insecure-registry")
        done = place.ask_cosign(command, *how, *words, image, **env)
        assert done.returncode == 0, done.stderr

    def test_what_cosign_signed_in_its_oci_mode_is_picked(
        self, elsewhere: Place, capsys: Any
    ) -> None:
        mode = ("--registry-referrers-mode", "oci-1-1")
        self.attach(elsewhere, "sign", *mode, COSIGN_EXPERIMENTAL="1")
        assert elsewhere.pick("cosign.pub") == 0
        assert elsewhere.digest("runtime") in capsys.readouterr().out
        assert elsewhere.pick("ours.pub") == SignatureError.exit_code
        assert "another key" in capsys.readouterr().err

    @pytest.mark.parametrize("says", ["https://sigstore.dev/cosign/sign/v1", "cyclonedx"])
    def test_a_bundle_is_a_signature_where_it_says_so(self, elsewhere: Place, says: str) -> None:
        """trixie's cosign writes bundles of statements only; a signature is one of its own kind."""
        (elsewhere.folder / "said.json").write_text("{}")
        what = ("--new-bundle-format", "--type", says, "--predicate", "said.json")
        self.attach(elsewhere, "attest", *what)
        signed = says.endswith("/sign/v1")
        assert elsewhere.pick("cosign.pub") == (0 if signed else SignatureError.exit_code)
        assert elsewhere.pick("ours.pub") == SignatureError.exit_code


@pytest.mark.parametrize(("key", "taken"), [("ours.pub", True), ("stranger.pub", False)])
def test_engines_of_containers_image_hold_to_it(
    signed: Place, trixie_tools: Path, key: str, taken: bool
) -> None:
    """skopeo, podman and CRI-O read a policy (bookworm's cannot): only what the key has signed."""
    rule = {
        "type": "sigstoreSigned",
        "keyPath": str(signed.folder / key),
        "signedIdentity": {"type": "matchRepository"},
    }
    policy = signed.folder / "policy.json"
    policy.write_text(json.dumps({"default": [rule]}))
    places = signed.folder / "registries.d"
    places.mkdir()
    found = {"docker": {signed.address: {"use-sigstore-attachments": True}}}
    (places / "here.yaml").write_text(json.dumps(found))  # JSON is YAML
    image = f"docker://{signed.address}/team/{signed.tiny.cell('runtime').tags[0]}"
    options = ["--policy", str(policy), "--registries.d", str(places)]
    skopeo = started_from(trixie_tools, "usr/bin/skopeo")
    copy = [*skopeo, *options, "copy", "--src-tls-verify=false", image]
    done = subprocess.run(
        [*copy, f"dir:{signed.folder}/taken"], check=False, capture_output=True, text=True
    )
    assert (done.returncode == 0) == taken, done.stderr
    assert taken or "signature" in done.stderr


def test_deploy_writes_nothing_for_an_image_that_is_not_signed(signed: Place, capsys: Any) -> None:
    project = signed.folder / "project"
    shutil.copytree(signed.tiny.folder, project)
    shutil.copytree(REPOSITORY / "templates", project / "templates", dirs_exist_ok=True)
    words = ["deploy", signed.tiny.cell("runtime").id, "--kind", "job", "--project", str(project)]
    words += ["--output", str(signed.folder / "out"), "--registry", f"http://{signed.address}/team"]
    stranger = ["--verify-key", str(signed.folder / "stranger.pub")]
    assert main([*words, *stranger]) == SignatureError.exit_code
    assert not (signed.folder / "out").exists()
    assert main([*words, "--verify-key", str(signed.folder / "ours.pub")]) == 0
    assert signed.digest("runtime") in (signed.folder / "out/job.yaml").read_text()


def test_cosigns_own_private_key_is_refused_before_anything_is_sent(
    place: Place, capsys: Any
) -> None:
    assert place.push("--sign-key", place.folder / "cosign.key") == SettingsError.exit_code
    assert "openssl genpkey" in capsys.readouterr().err
    assert not place.verified_by_cosign("cosign.pub", place.digest("runtime"))
