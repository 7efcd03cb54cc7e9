"""Signatures as cosign makes them: what is signed, by whom, and what does not count."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from referring import Shelf, referring_registry
from tiny import make_tiny

from wheelyard.cli import main
from wheelyard.console.progress import QuietReporter
from wheelyard.errors import RegistryError, SettingsError, SignatureError, UsageError
from wheelyard.oci.address import parse_address, pinned
from wheelyard.publish.attest.cosign import add_signature, fetch_signatures, signature_tag
from wheelyard.publish.attest.keys import PASSPHRASE, load_private_key, load_public_key, sign
from wheelyard.publish.attest.signatures import require_signed, sign_image
from wheelyard.publish.attest.signing import KIND, Signature, claim, fault, make_signature
from wheelyard.publish.attest.trust import Trust
from wheelyard.registry.client import Registry, open_registry
from wheelyard.settings import Settings

REPOSITORY = "reg.example/team/pytorch"
DIGEST, OTHER = f"sha256:{'ab' * 32}", f"sha256:{'cd' * 32}"
KEY, STRANGER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
PUBLIC = (KEY.public_key(),)


def trust(*keys: Any, signed_as: str | None = None) -> Trust:
    address = None if signed_as is None else parse_address(signed_as)
    return Trust(tuple(key.public_key() for key in keys), Path("/nowhere"), address)


PKCS8 = serialization.PrivateFormat.PKCS8
TRADITIONAL = serialization.PrivateFormat.TraditionalOpenSSL


def pem(
    key: Any, passphrase: str | None = None, kind: serialization.PrivateFormat = PKCS8
) -> bytes:
    locked = passphrase and serialization.BestAvailableEncryption(passphrase.encode())
    form = locked or serialization.NoEncryption()
    return bytes(key.private_bytes(serialization.Encoding.PEM, kind, form))


def public_pem(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))


@pytest.fixture
def written(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path / "key.pem"
        path.write_bytes(data)
        return path

    return write


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_tiny(tmp_path_factory.mktemp("tiny")).context.settings


class TestTheClaim:
    def test_is_byte_by_byte_what_cosign_writes(self) -> None:
        """Copied from a signature that cosign 2.5 made."""
        digest = "sha256:29a1e6463d1e0cdedf39ddf9704691c8b62f8e25a6ed96e21d9f98ca2cf66cbf"
        assert claim("127.0.0.1:5999/xx", digest) == (
            b'{"critical":{"identity":{"docker-reference":"127.0.0.1:5999/xx"},"image":'
            b'{"docker-manifest-digest":"sha256:29a1e6463d1e0cdedf39ddf9704691c8b62f8e25a6ed96e21d'
            b'9f98ca2cf66cbf"},"type":"cosign container image signature"},"optional":null}'
        )

    def test_lies_under_the_tag_that_cosign_asks_for(self) -> None:
        assert signature_tag(DIGEST) == f"sha256-{'ab' * 32}.sig"


class TestVerification:
    def test_holds_for_its_key_and_digest(self) -> None:
        signature = make_signature(KEY, REPOSITORY, DIGEST)
        assert fault(signature, PUBLIC, REPOSITORY, DIGEST) is None

    def test_a_signature_that_cosign_made(self, written: Callable[[bytes], Path]) -> None:
        """What cosign 2.5 of Debian trixie left in a registry, and its public key."""
        made = json.loads((Path(__file__).parent / "data/cosign.json").read_text())
        signature = Signature(made["payload"].encode(), made["signature"])
        key = load_public_key(written(made["public"].encode()))
        name = json.loads(made["payload"])["critical"]["identity"]["docker-reference"]
        assert fault(signature, [key], name, made["digest"]) is None

    def test_of_another_key(self) -> None:
        signature = make_signature(STRANGER, REPOSITORY, DIGEST)
        assert "another key" in (fault(signature, PUBLIC, REPOSITORY, DIGEST) or "")

    def test_over_another_image(self) -> None:
        signature = make_signature(KEY, REPOSITORY, OTHER)
        assert fault(signature, PUBLIC, REPOSITORY, DIGEST) == f"one is over another image, {OTHER}"

    @pytest.mark.parametrize(
        "name",
        ["reg.example/team/tensorflow", "reg.example/pytorch", "other.example/team/pytorch",
         "pytorch", "", "reg.example/team/pytorch/x", "reg.example:443/team/pytorch"],
    )  # fmt: skip
    def test_for_another_name(self, name: str) -> None:
        signature = make_signature(KEY, name, DIGEST)
        assert f"for the name '{name}'" in (fault(signature, PUBLIC, REPOSITORY, DIGEST) or "")

    @pytest.mark.parametrize("behind", ["", ":2.3.1", f"@{DIGEST}", f":latest@{DIGEST}"])
    def test_containers_image_writes_a_tag_behind_it(self, behind: str) -> None:
        signature = make_signature(KEY, REPOSITORY + behind, DIGEST)
        assert fault(signature, PUBLIC, REPOSITORY, DIGEST) is None

    def test_docker_hub_goes_by_several_names(self) -> None:
        signature = make_signature(KEY, "index.docker.io/team/pytorch", DIGEST)
        assert fault(signature, PUBLIC, "docker.io/team/pytorch", DIGEST) is None

    def test_one_of_several_keys_is_enough(self) -> None:
        signature = make_signature(KEY, REPOSITORY, DIGEST)
        keys = (STRANGER.public_key(), KEY.public_key())
        assert fault(signature, keys, REPOSITORY, DIGEST) is None
        assert fault(signature, keys[:1], REPOSITORY, DIGEST) is not None

    def test_moved_to_another_claim(self) -> None:
        signature = make_signature(KEY, REPOSITORY, OTHER)
        forged = Signature(claim(REPOSITORY, DIGEST), signature.value)
        assert "was changed" in (fault(forged, PUBLIC, REPOSITORY, DIGEST) or "")

    @pytest.mark.parametrize("value", ["", "%%%", "AAAA", base64.b64encode(b"\x30\x00").decode()])
    def test_of_rubbish(self, value: str) -> None:
        assert fault(Signature(claim(REPOSITORY, DIGEST), value), PUBLIC, REPOSITORY, DIGEST)

    @pytest.mark.parametrize(
        "payload",
        [
            b"{}", b"[]", b"\xff", b'{"critical": null}',
            claim(REPOSITORY, DIGEST).replace(KIND.encode(), b"a letter"),
        ],
    )  # fmt: skip
    def test_over_something_that_is_no_image(self, payload: bytes) -> None:
        value = base64.b64encode(sign(KEY, payload)).decode()
        assert "not an image" in (
            fault(Signature(payload, value), PUBLIC, REPOSITORY, DIGEST) or ""
        )


class TestKeys:
    @pytest.mark.parametrize("kind", [PKCS8, TRADITIONAL])
    def test_plain_and_encrypted(self, written: Callable[[bytes], Path], kind: Any) -> None:
        plain = load_private_key(written(pem(KEY, kind=kind)), {PASSPHRASE: "not asked for"})
        locked = load_private_key(written(pem(KEY, "word", kind)), {PASSPHRASE: "word"})
        assert plain.private_numbers() == locked.private_numbers() == KEY.private_numbers()

    def test_with_the_parameters_that_openssl_ecparam_writes(
        self, written: Callable[[bytes], Path]
    ) -> None:
        parameters = (
            b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        )
        data = parameters + pem(KEY, kind=TRADITIONAL)
        assert load_private_key(written(data), {}).private_numbers() == KEY.private_numbers()

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (pem(KEY, "word"), f"is encrypted; set {PASSPHRASE}"),
            (pem(ec.generate_private_key(ec.SECP384R1())), "P-256"),
            (pem(ed25519.Ed25519PrivateKey.generate()), "P-256"),
            (public_pem(KEY), "not a private key"),
            (b"no key", "openssl genpkey"),
            (
                b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\neyJr\n-----END",
                "cosign's own format",
            ),
        ],
    )
    def test_what_cannot_sign(
        self, written: Callable[[bytes], Path], data: bytes, said: str
    ) -> None:
        with pytest.raises(SettingsError, match=said):
            load_private_key(written(data), {})

    def test_a_wrong_passphrase_is_not_repeated(self, written: Callable[[bytes], Path]) -> None:
        with pytest.raises(SettingsError, match="is wrong") as caught:
            load_private_key(written(pem(KEY, "word")), {PASSPHRASE: "s3cret"})
        assert "s3cret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (pem(KEY), "private key; verification needs"),
            (public_pem(ec.generate_private_key(ec.SECP384R1())), "P-256"),
            (b"no key", "not a public key in PEM"),
        ],
    )
    def test_what_cannot_verify(
        self, written: Callable[[bytes], Path], data: bytes, said: str
    ) -> None:
        with pytest.raises(SettingsError, match=said):
            load_public_key(written(data))

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="No such file"):
            load_public_key(tmp_path / "none")

    def test_without_the_library_the_extra_is_named(
        self, written: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        monkeypatch.setitem(sys.modules, "cryptography", None)
        words = ["pick", "--driver", "550.54", "--registry", "reg.example"]
        assert main([*words, "--verify-key", str(written(public_pem(KEY)))]) == 13
        assert "pip install 'wheelyard[sign]'" in capsys.readouterr().err


class TestInARegistry:
    @pytest.fixture
    def shelf(self) -> Any:
        with referring_registry() as shelf:
            yield shelf

    @pytest.fixture
    def opened(self, shelf: Shelf, settings: Settings) -> Any:
        with open_registry(parse_address(shelf.url), settings, QuietReporter(None)) as found:
            yield found

    def test_signed_once(self, opened: Registry) -> None:
        with pytest.raises(SignatureError, match="there is none"):
            require_signed(opened, "x", DIGEST, trust(KEY))
        assert sign_image(opened, "x", DIGEST, KEY)
        assert not sign_image(opened, "x", DIGEST, KEY)
        require_signed(opened, "x", DIGEST, trust(KEY))
        with pytest.raises(SignatureError, match="another key"):
            require_signed(opened, "x", DIGEST, trust(STRANGER))

    def test_a_copy_has_the_name_that_it_was_signed_under(self, opened: Registry) -> None:
        value = make_signature(KEY, "origin.example/team/x", DIGEST)
        add_signature(opened, "x", DIGEST, value)
        with pytest.raises(SignatureError, match="--signed-as HOST/PREFIX"):
            require_signed(opened, "x", DIGEST, trust(KEY))
        require_signed(opened, "x", DIGEST, trust(KEY, signed_as="origin.example/team"))

    def test_what_others_signed_stays(self, opened: Registry) -> None:
        assert sign_image(opened, "x", DIGEST, STRANGER)
        assert sign_image(opened, "x", DIGEST, KEY)
        assert len(fetch_signatures(opened, "x", DIGEST)) == 2
        for key in (KEY, STRANGER):
            require_signed(opened, "x", DIGEST, trust(key))

    def test_another_images_signatures_do_not_count(self, opened: Registry, shelf: Shelf) -> None:
        sign_image(opened, "x", OTHER, KEY)
        shelf.manifests[signature_tag(DIGEST)] = shelf.manifests[signature_tag(OTHER)]
        with pytest.raises(SignatureError, match=f"over another image, {OTHER}"):
            require_signed(opened, "x", DIGEST, trust(KEY))

    def test_a_payload_that_was_changed(self, opened: Registry, shelf: Shelf) -> None:
        sign_image(opened, "x", DIGEST, KEY)
        layer = json.loads(shelf.manifests[signature_tag(DIGEST)])["layers"][0]
        shelf.blobs[layer["digest"]] = claim(REPOSITORY, OTHER)
        with pytest.raises(RegistryError, match="does not match its digest"):
            require_signed(opened, "x", DIGEST, trust(KEY))

    @pytest.mark.parametrize("data", [b"no", b"[]", b"{}", b'{"layers": [1]}', b'{"layers": [{}]}'])
    def test_a_tag_that_holds_something_else(
        self, opened: Registry, shelf: Shelf, data: bytes
    ) -> None:
        shelf.manifests[signature_tag(DIGEST)] = data
        with pytest.raises(RegistryError, match="does not hold signatures as cosign stores them"):
            sign_image(opened, "x", DIGEST, KEY)


class TestCommands:
    def test_verifying_needs_a_registry(
        self, written: Callable[[bytes], Path], capsys: Any
    ) -> None:
        words = ["pick", "--driver", "550.54", "--verify-key", str(written(public_pem(KEY)))]
        assert main(words) == UsageError.exit_code
        assert "--registry" in capsys.readouterr().err

    @pytest.mark.parametrize("command", ["pick", "pull"])
    def test_a_name_without_a_key(self, command: str, capsys: Any) -> None:
        words = [command, "--driver", "550.54", "--registry", "reg.example"]
        assert main([*words, "--signed-as", "x.example"]) == UsageError.exit_code
        assert "--verify-key" in capsys.readouterr().err

    def test_a_reference_by_digest(self) -> None:
        assert pinned("reg:5000/a/b:1.0", DIGEST) == f"reg:5000/a/b@{DIGEST}"
