"""A catalogue by somebody who may write to the registry: nothing of it is obeyed by anybody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import FIELDS, FULL, PROJECT, TEXTS, WRONG, catalogue, listed, placed
from referring import Shelf

from wheelyard.cli import BUG, main
from wheelyard.console.progress import QuietReporter
from wheelyard.errors import MachineError, RegistryError, SelectionError
from wheelyard.oci.address import parse_address
from wheelyard.planning.catalogue import read_catalogue
from wheelyard.publish.catalogue import fetch_catalogue, publish_catalogue
from wheelyard.registry.client import open_registry
from wheelyard.rendering.deployments import KINDS
from wheelyard.settings import load_settings

MACHINE = ("--driver", "535.104", "--runtime", "docker")
# Of wrong types as a whole; `None`: with an image beside it that is as it should be.
WHOLE: dict[str, Any] = {
    "nothing": b"",
    "no JSON": b"<html>busy</html>",
    "no text": b"\xff\xfe\x00",
    "list": [],
    "text": "x",
    "number": 7,
    "null": None,
    "empty": {},
    "no images": {"version": 1},
    "images null": {"version": 1, "images": None},
    "images object": {"version": 1, "images": {"a": 1}},
    "images text": {"version": 1, "images": "x"},
    "version text": {"version": "1", "images": []},
    "version truth": {"version": True, "images": []},
    "counter text": {"version": 1, "counter": "9", "images": []},
    "counter negative": {"version": 1, "counter": -1, "images": []},
    "counter huge": {"version": 1, "counter": 10**30, "images": []},
    "deep": b"[" * 200_000,
    "deep images": b'{"version": 1, "images": ' + b"[" * 5000,
    "many images": {"version": 1, "images": [{}] * 5000},
    "half a pair": b'{"version": 1, "images": ["\\ud800"]}',
}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other push comes between, so that none is waited for."""
    monkeypatch.setattr("wheelyard.publish.catalogue.settle", lambda *_: None)


@pytest.fixture(scope="module")
def sound() -> dict[str, Any]:
    return listed()


def harmless(text: str) -> None:
    """Nothing that a terminal obeys."""
    assert all(x.isprintable() or x in "\n\t" for x in text), ascii(text)


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_takes_more_than_its_word(sound: dict[str, Any], field: str) -> None:
    """Every text and every wrong type in every field: the entry goes, the other one stays."""
    first, second = sound["images"]
    held = 0
    for name, value in {**TEXTS, **WRONG}.items():
        if (field, name) in {
            ("special", "truth"), ("digest", "nothing"), ("unpacked", "nothing"),
            ("unpacked", "number"),
        }:  # fmt: skip
            continue
        changed = [placed(first, field, value), second]
        data = json.dumps({"version": 1, "counter": 0, "images": changed}).encode()
        found = read_catalogue(data)
        assert [entry.id for entry in found.entries] == [second["id"]], name
        (fault,) = found.faults
        assert fault.startswith("image 0: "), name
        assert len(fault) < 500, name
        harmless(fault.replace("\n", "\x00"))
        held += 1
    assert held > len(TEXTS)


def test_tags_of_another_repository_are_refused(sound: dict[str, Any]) -> None:
    first = sound["images"][0]
    for changed in (
        {"tags": [*first["tags"], "tensorflow:2.16.1"]},
        {"framework": "tensorflow"},
        {"framework_version": "2.3.1+2.4.1"},
        {"framework": "pytorch+tensorflow"},
    ):
        data = json.dumps({"version": 1, "images": [first | changed]}).encode()
        assert len(read_catalogue(data).faults) == 1


@pytest.fixture
def shelf(request: pytest.FixtureRequest) -> Iterator[Shelf]:
    with catalogue(request.param) as made:
        yield made


@pytest.mark.parametrize("shelf", WHOLE.values(), ids=list(WHOLE), indirect=True)
def test_a_whole_catalogue_of_wrong_types_ends_in_a_sentence(
    shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`pick` and `deploy` say so, and a push puts a sound one there."""
    where = ["--registry", shelf.url, "--cache-dir", str(tmp_path / "cache")]
    deploy = ["deploy", FULL, "--kind", "compose", "--output", str(tmp_path / "out"), *where]
    for words in (["pick", *MACHINE, *where], deploy):
        # One of entries that are all left out is an empty one.
        assert main(words) in (
            RegistryError.exit_code, MachineError.exit_code, SelectionError.exit_code,
        )  # fmt: skip
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        harmless(said.err + said.out)
    assert not (tmp_path / "out").exists()
    entries = read_catalogue(json.dumps(listed()).encode()).entries
    settings = load_settings({"project": str(PROJECT)})
    with open_registry(parse_address(shelf.url), settings, QuietReporter(None)) as registry:
        publish_catalogue(registry, entries)
        assert {x.id for x in fetch_catalogue(registry) or ()} == {x.id for x in entries}


def poisoned(sound: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    first, second = sound["images"]
    return sound | {"images": [placed(first, field, value), second]}


@pytest.mark.parametrize("name", TEXTS)
def test_no_file_and_no_terminal_gets_it(
    sound: dict[str, Any], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each text as Python's version and as a tag, through every kind of file and `pick`."""
    for at, field in enumerate(("python", "tags")):
        with catalogue(poisoned(sound, field, TEXTS[name])) as shelf:
            where = ["--registry", shelf.url, "--cache-dir", str(tmp_path / "cache")]
            assert main(["pick", *MACHINE, *where]) != BUG
            said = capsys.readouterr()
            harmless(said.out + said.err)
            lines = [x for x in said.out.splitlines() if x.startswith("run ")]
            assert len(lines) <= 1
            for kind in KINDS:
                out = tmp_path / f"{at}-{kind}"
                words = ["deploy", FULL, "--kind", kind, "--command", "python serve.py", *where]
                assert main([*words, "--output", str(out)]) == SelectionError.exit_code
                assert not out.exists()
            harmless(capsys.readouterr().err)


def test_what_is_left_out_is_named(
    sound: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with catalogue(poisoned(sound, "python", TEXTS["escape"])) as shelf:
        where = ["--registry", shelf.url, "--cache-dir", str(tmp_path)]
        main(["pick", *MACHINE, *where])
        assert "image 0: python: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "manifest",
    [
        b"", b"[]", b"{}", b"x", b'{"layers": [{}]}', b"[" * 100_000,
        json.dumps({"config": {"digest": "../../x", "size": 1}, "layers": []}).encode(),
        json.dumps({"layers": [{"digest": "sha256:../../../x", "size": 1}]}).encode(),
        json.dumps({"layers": [{"digest": ["sha256"], "size": 1}]}).encode(),
    ],
)  # fmt: skip
def test_a_manifest_that_is_none(
    manifest: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with catalogue({}) as shelf:
        shelf.manifests["latest"] = manifest
        where = ["--registry", shelf.url, "--cache-dir", str(tmp_path)]
        assert main(["pick", *MACHINE, *where]) == RegistryError.exit_code
        said = capsys.readouterr().err
        assert "remove the tag" in said
        harmless(said)
