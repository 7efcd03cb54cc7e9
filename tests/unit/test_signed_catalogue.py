"""A signed catalogue: nobody changes it, swaps its images, or puts an older one back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, Any

import planning
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hostile import PROJECT, put_image
from referring import ANY, Shelf, digest_of, referring_registry

from wheelyard.cli import main
from wheelyard.console.progress import QuietReporter
from wheelyard.errors import RegistryError, SignatureError, UsageError
from wheelyard.model import Cell
from wheelyard.oci.address import parse_address
from wheelyard.planning.catalogue import CatalogueEntry, plan_entries
from wheelyard.publish.attest.cosign import signature_tag
from wheelyard.publish.attest.signatures import require_entry, sign_image
from wheelyard.publish.attest.trust import Trust, newest_seen
from wheelyard.publish.catalogue import Signer, fetch_catalogue, publish_catalogue
from wheelyard.registry.client import Registry, open_registry
from wheelyard.settings import load_settings

if TYPE_CHECKING:
    from wheelyard.publish.attest.keys import PrivateKey

OURS, STRANGER, NEW = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
MACHINE = ("--driver", "535.104", "--runtime", "docker")
SETTINGS = load_settings({"project": str(PROJECT)})


def cells() -> Sequence[Cell]:
    """PyTorch 2.3.1, for running and for developing."""
    _matrix, _upstream, plan = planning.committed()
    start = "pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-"
    return [cell for cell in plan.cells if cell.id.startswith(start)]


class Told(QuietReporter):
    """Warnings as a list."""

    def __init__(self) -> None:
        super().__init__(None)
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@dataclass
class Place:
    """A registry with two signed images, and a cache."""

    shelf: Shelf
    registry: Registry
    told: Told
    entries: list[CatalogueEntry]
    folder: Path

    def trust(self, *keys: PrivateKey, cache: str = "cache") -> Trust:
        return Trust(tuple(x.public_key() for x in keys), self.folder / cache / "catalogues")

    def signer(self, key: PrivateKey = OURS, *older: PrivateKey) -> Signer:
        return Signer(key, self.trust(key, *older, cache="pusher"))

    def publish(self, *entries: CatalogueEntry, key: PrivateKey = OURS) -> None:
        publish_catalogue(self.registry, entries or self.entries, self.signer(key))

    def fetch(self, *keys: PrivateKey, cache: str = "cache") -> tuple[CatalogueEntry, ...]:
        return fetch_catalogue(self.registry, self.trust(*(keys or (OURS,)), cache=cache)) or ()

    def digest(self) -> str:
        return digest_of(self.shelf.manifests["catalogue/latest"])

    def run(self, *words: str | Path) -> int:
        key = self.folder / "key.pub"
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        data = OURS.public_key().public_bytes(serialization.Encoding.PEM, form)
        key.write_bytes(data)
        where = ["--registry", self.shelf.url, "--cache-dir", self.folder / "cache"]
        return main([*map(str, [*words, *where, "--verify-key", key])])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr("wheelyard.publish.catalogue.settle", lambda *_: None)  # it is alone
    _matrix, upstream, _plan = planning.committed()
    chosen = cells()
    told = Told()
    with referring_registry(ANY) as shelf:
        digests = {cell.id: put_image(shelf, cell) for cell in chosen}
        entries = [
            replace(entry, digest=digests[entry.id]) for entry in plan_entries(chosen, upstream, [])
        ]
        with open_registry(parse_address(shelf.url), SETTINGS, told) as registry:
            for digest in digests.values():
                sign_image(registry, "pytorch", digest, OURS)
            yield Place(shelf, registry, told, entries, tmp_path)


def test_signed_and_taken(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.publish()
    assert list(place.fetch()) == sorted(place.entries, key=lambda x: x.id)
    assert place.run("pick", *MACHINE, "--json") == 0
    assert json.loads(capsys.readouterr().out)["digest"] in {x.digest for x in place.entries}
    before = place.shelf.manifests["catalogue/latest"]
    place.publish()  # nothing to add
    assert place.shelf.manifests["catalogue/latest"] == before
    assert place.told.warnings == []


def unsigned(place: Place) -> None:
    del place.shelf.manifests[f"catalogue/{signature_tag(place.digest())}"]


def strangers(place: Place) -> None:
    unsigned(place)
    sign_image(place.registry, "catalogue", place.digest(), STRANGER)


def changed(place: Place) -> None:
    """By whoever may write there: another catalogue under the same tag."""
    manifest = json.loads(place.shelf.manifests["catalogue/latest"])
    blob = manifest["layers"][0]
    content = json.loads(place.shelf.blobs[blob["digest"]])
    left, right = content["images"]
    left["digest"], right["digest"] = right["digest"], left["digest"]
    data = json.dumps(content).encode()
    place.shelf.blobs[digest_of(data)] = data
    blob["digest"], blob["size"] = digest_of(data), len(data)
    place.shelf.manifests["catalogue/latest"] = json.dumps(manifest).encode()


def with_the_others_signature(place: Place) -> None:
    signature = place.shelf.manifests[f"catalogue/{signature_tag(place.digest())}"]
    changed(place)
    place.shelf.manifests[f"catalogue/{signature_tag(place.digest())}"] = signature


def an_images_signature(place: Place) -> None:
    """What the key has signed for another name does not make a catalogue."""
    digest = str(place.entries[0].digest)
    tag = signature_tag(digest)
    place.shelf.manifests["catalogue/latest"] = place.shelf.manifests[f"pytorch/{digest}"]
    place.shelf.manifests[f"catalogue/{tag}"] = place.shelf.manifests[f"pytorch/{tag}"]


ATTACKS = [unsigned, strangers, changed, with_the_others_signature, an_images_signature]


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_command_with_a_key_refuses_it(
    place: Place, attack: Callable[[Place], None], capsys: pytest.CaptureFixture[str]
) -> None:
    place.publish()
    attack(place)
    out = place.folder / "out"
    out.mkdir()
    commands: list[list[str | Path]] = [
        ["pick", *MACHINE],
        ["pull", *MACHINE],
        ["deploy", place.entries[0].id, "--kind", "compose", "--command", "x", "--output", out],
        ["devcontainer", "init", "--project", PROJECT, "--output", out],
        ["devcontainer", "pin", "--project", PROJECT],
    ]
    for words in commands:
        assert place.run(*words) == SignatureError.exit_code, words
        assert "catalogue@sha256:" in capsys.readouterr().err
    assert list(out.iterdir()) == []


def test_one_signed_image_does_not_stand_for_another(place: Place) -> None:
    """Even where the catalogue says so and is signed, as by a push that was lied to."""
    left, right = place.entries
    swapped = [replace(left, digest=right.digest), replace(right, digest=left.digest)]
    trust = place.trust(OURS)
    for entry in place.entries:
        require_entry(place.registry, entry, trust)
    for entry in swapped:
        with pytest.raises(SignatureError, match="it is not"):
            require_entry(place.registry, entry, trust)
    place.publish(*swapped)
    assert place.run("pick", *MACHINE) == SignatureError.exit_code


@pytest.mark.parametrize(
    "change", [{"cuda": "11.8"}, {"python": "3.13"}, {"framework_version": "2.4.1"},
               {"cudnn": "9.1"}, {"tags": ("pytorch:latest",)}],
)  # fmt: skip
def test_an_entry_says_of_an_image_what_it_says_itself(
    place: Place, change: dict[str, Any]
) -> None:
    with pytest.raises(SignatureError, match="it is not"):
        require_entry(place.registry, replace(place.entries[0], **change), place.trust(OURS))


@pytest.mark.parametrize("label", [None, "", "[]", "{}", '{"id": "x\\n"}', "[" * 5000])
def test_a_signed_image_that_says_nothing_of_itself(place: Place, label: str | None) -> None:
    entry = place.entries[0]
    manifest = json.loads(place.shelf.manifests[f"pytorch/{entry.digest}"])
    config = json.loads(place.shelf.blobs[manifest["config"]["digest"]])
    config["config"]["Labels"] = None if label is None else {"wheelyard.cell": label}
    data = json.dumps(config).encode()
    place.shelf.blobs[digest_of(data)] = data
    manifest["config"]["digest"] = digest_of(data)
    data = json.dumps(manifest).encode()
    place.shelf.manifests[f"pytorch/{digest_of(data)}"] = data
    sign_image(place.registry, "pytorch", digest_of(data), OURS)
    with pytest.raises(SignatureError, match="verifiable as"):
        require_entry(place.registry, replace(entry, digest=digest_of(data)), place.trust(OURS))


class TestRollback:
    def put_back(self, place: Place) -> None:
        """A newer image is published and seen; then somebody puts the old catalogue back."""
        place.publish()
        before = place.shelf.manifests["catalogue/latest"]
        newer = replace(place.entries[0], digest=put_image(place.shelf, cells()[0], "newer"))
        place.publish(newer)
        assert newer in place.fetch()
        place.shelf.manifests["catalogue/latest"] = before

    def test_is_refused_where_the_newer_one_was_seen(
        self, place: Place, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.put_back(place)
        assert place.run("pick", *MACHINE) == SignatureError.exit_code
        said = capsys.readouterr().err
        assert "older than the one seen" in said
        assert str(place.folder / "cache/catalogues") in said
        assert place.fetch(cache="another machine")  # which has seen nothing: see SECURITY.md

    def test_to_none_at_all(self, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
        """So that what a folder says that one is in does not take its place."""
        place.publish()
        place.fetch()
        del place.shelf.manifests["catalogue/latest"]
        assert place.run("pick", *MACHINE) == SignatureError.exit_code
        assert "or gone" in capsys.readouterr().err
        place.publish()
        assert "no longer exists" in place.told.warnings[0]
        assert place.fetch()

    def test_is_not_signed_anew_by_who_knows_better(self, place: Place) -> None:
        self.put_back(place)
        before = place.shelf.manifests["catalogue/latest"]
        with pytest.raises(SignatureError, match="older than the one seen"):
            place.publish()
        assert place.shelf.manifests["catalogue/latest"] == before

    def test_a_push_that_remembers_nothing_counts_on(self, place: Place) -> None:
        place.publish()
        seen = newest_seen(place.trust(OURS, cache="pusher"), self.name(place))
        del place.shelf.manifests["catalogue/latest"]
        signer = Signer(OURS, place.trust(OURS, cache="elsewhere"))
        publish_catalogue(place.registry, place.entries, signer)
        assert newest_seen(signer.trust, self.name(place)) >= seen
        place.fetch(cache="pusher")

    def name(self, place: Place) -> str:
        return place.registry.address.reference("catalogue")

    def test_a_memory_that_cannot_be_written_is_told(self, place: Place) -> None:
        place.publish()
        (place.folder / "cache").write_text("no folder")
        assert place.fetch()
        assert "cannot be remembered" in place.told.warnings[0]

    @pytest.mark.parametrize("text", ["", "[]", '{"counter": "x"}', '{"counter": -1}'])
    def test_a_memory_that_is_none_is_none(self, place: Place, text: str) -> None:
        place.publish()
        place.fetch()
        (file,) = (place.folder / "cache/catalogues").iterdir()
        file.write_text(text)
        assert place.fetch()
        assert newest_seen(place.trust(OURS), self.name(place)) > 0


class TestPushes:
    def test_nothing_of_an_unsigned_one_is_signed(self, place: Place) -> None:
        """Whoever may write to the registry could have listed it."""
        first, second = place.entries
        publish_catalogue(place.registry, [replace(first, digest=second.digest)])
        place.publish(second)
        assert place.fetch() == (second,)
        (warning,) = place.told.warnings
        assert first.id in warning
        assert "--sign-key" in warning

    def test_an_unsigned_push_leaves_a_signed_one_alone(self, place: Place) -> None:
        first, second = place.entries
        place.publish(first)
        with pytest.raises(RegistryError, match="push with --sign-key"):
            publish_catalogue(place.registry, [second])
        assert place.fetch() == (first,)

    def test_a_new_key_goes_on_from_the_old_ones_where_that_is_named(self, place: Place) -> None:
        first, second = place.entries
        place.publish(first)
        publish_catalogue(place.registry, [second], place.signer(NEW, OURS))
        assert len(place.fetch(NEW)) == len(place.fetch(OURS, NEW)) == 2
        with pytest.raises(SignatureError, match="another key"):
            place.fetch(OURS)
        publish_catalogue(place.registry, [first], place.signer(STRANGER))
        assert place.fetch(STRANGER) == (first,)

    def test_at_the_same_time(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        start = Barrier(4)
        _matrix, upstream, plan = planning.committed()
        wanted = plan_entries(plan.cells[:4], upstream, [])

        def push(entry: CatalogueEntry) -> None:
            with open_registry(place.registry.address, SETTINGS, QuietReporter(None)) as opened:
                start.wait()
                trust = place.trust(OURS, cache=f"machine-{entry.id}")
                publish_catalogue(opened, [entry], Signer(OURS, trust))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(push, wanted))
        assert {x.id for x in place.fetch()} == {x.id for x in wanted}
        for entry in wanted:  # whatever a push has seen, what is there is no older
            place.fetch(cache=f"machine-{entry.id}")


def test_many_at_once_are_all_answered(place: Place) -> None:
    place.publish()

    def ask(_: int) -> int:
        with open_registry(place.registry.address, SETTINGS, QuietReporter(None)) as opened:
            found = fetch_catalogue(opened, place.trust(OURS)) or ()
            require_entry(opened, found[0], place.trust(OURS))
            return len(found)

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(ask, range(50))) == [2] * 50


def test_keys_of_a_push_belong_to_one_that_signs(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.run("push", "all", "--project", PROJECT) == UsageError.exit_code
    assert "--sign-key" in capsys.readouterr().err


def test_reproduce_asks_for_the_signature_of_what_was_named(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    left, right = cells()
    words = ("reproduce", left.tags[0], "--project", PROJECT)
    place.shelf.manifests[f"pytorch/{left.tags[0].partition(':')[2]}"] = place.shelf.manifests[
        f"pytorch/{right.tags[0].partition(':')[2]}"
    ]
    assert place.run(*words) == SignatureError.exit_code
    assert "the tag was moved" in capsys.readouterr().err
    put_image(place.shelf, left, "not signed")
    assert place.run(*words) == SignatureError.exit_code
    assert "there is none" in capsys.readouterr().err
