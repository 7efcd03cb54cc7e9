"""Pushed by us, picked from the catalogue, pulled by engines that have never seen our layers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tiny import Tiny, make_tiny

from tests.engines.podman import Storage
from tests.peers.registries import registry
from wheelyard.cli import main
from wheelyard.errors import SignatureError

if TYPE_CHECKING:
    from docker import DockerClient


@pytest.fixture
def published(
    tiny: Tiny, tiny_dist: Path, need: Callable[..., None], tmp_path: Path
) -> Iterator[list[str]]:
    """Options that name a registry with two small images."""
    need("docker-registry")
    with registry(tmp_path) as address:
        where = ["--registry", f"http://{address}/team"]
        words = ["push", "all", *where, "--output", str(tiny_dist)]
        assert main([*words, "--project", str(tiny.folder), "--quiet"]) == 0
        yield where


def pick(where: list[str], capsys: Any, *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["pick", *where, "--cuda", "12", "--json", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_docker_pulls_what_was_picked_and_a_sibling_costs_less(
    engine: DockerClient,
    published: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    host = ("--driver", "535.104")
    expected = pick(published, capsys, *host)
    assert main(["pull", *published, *host, "--json"]) == 0
    pulled = json.loads(capsys.readouterr().out)
    image = engine.images.get(expected["image"])
    assert pulled["pulled"] == image.id
    repository = expected["image"].rpartition(":")[0]
    assert f"{repository}@{expected['digest']}" in image.attrs["RepoDigests"]

    from wheelyard.oci.address import parse_address
    from wheelyard.planning.catalogue import pull_bytes
    from wheelyard.publish.catalogue import fetch_catalogue
    from wheelyard.registry.client import open_registry
    from wheelyard.servers.machine import read_engine

    read = read_engine()
    assert read.facts is not None
    assert read.facts.version.startswith("20.10")
    context = make_tiny(tmp_path / "settings").context
    with open_registry(parse_address(published[1]), context.settings, context.reporter) as opened:
        entries = fetch_catalogue(opened)
    assert entries is not None
    costs = {x.flavour: (pull_bytes(x, read.layers), pull_bytes(x, ())) for x in entries}
    assert costs["runtime"][0] == 0
    assert 0 < costs["devel"][0] < costs["devel"][1]  # type: ignore[operator]


def test_podman_pulls_the_digest_and_gives_it_its_tag(
    podman: Storage, published: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    host = ("--driver", "535.104", "--cuda", "12", "--runtime", "podman")
    expected = pick(published, capsys, *host)
    assert main(["pull", *published, *host, "--json"]) == 0
    pulled = json.loads(capsys.readouterr().out)
    (image,) = json.loads(podman.podman("image", "inspect", expected["tag"]))
    assert pulled["pulled"] == image["Id"]
    assert image["Digest"] == expected["digest"]
    assert expected["tag"] in image["RepoTags"]
    repository = expected["tag"].rpartition(":")[0]
    assert f"{repository}@{expected['digest']}" in image["RepoDigests"]


def test_a_bundle_is_imported_into_the_engine(
    engine: DockerClient,
    tiny: Tiny,
    tiny_dist: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    """As on a machine without a network: no project, no registry."""
    words = ["push", "all", "--layout", str(tmp_path / "both.tar"), "--project", str(tiny.folder)]
    assert main([*words, "--output", str(tiny_dist), "--quiet"]) == 0
    capsys.readouterr()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["import", str(tmp_path / "both.tar"), "--load", "--json", "--quiet"]) == 0
    imported = json.loads(capsys.readouterr().out)
    assert len(imported) == 2
    for image in imported:
        assert image["loaded"]
        blob = tiny_dist / "blobs" / image["digest"].replace(":", "/")
        for tag in image["tags"]:
            assert engine.images.get(tag).id == json.loads(blob.read_text())["config"]["digest"]


def test_only_what_is_signed_is_pulled(
    engine: DockerClient,
    published: list[str],
    tiny: Tiny,
    tiny_dist: Path,
    tmp_path: Path,
    need: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    """The engine has the very digest that was verified, and nothing where that failed."""
    need("openssl")
    monkeypatch.chdir(tmp_path)
    make = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run([*make, "-out", "key.pem"], check=True, capture_output=True)
    public = ["openssl", "pkey", "-in", "key.pem", "-pubout", "-out", "key.pub"]
    subprocess.run(public, check=True, capture_output=True)
    pull = ["pull", *published, "--driver", "535.104", "--cuda", "12", "--verify-key", "key.pub"]
    assert main(pull) == SignatureError.exit_code
    assert engine.images.list() == []
    push = ["push", "all", *published, "--project", str(tiny.folder), "--sign-key", "key.pem"]
    push += ["--output", str(tiny_dist)]
    assert main([*push, "--quiet"]) == 0
    capsys.readouterr()
    assert main([*pull, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    image = engine.images.get(found["image"])
    assert found["image"].endswith(f"@{found['digest']}")
    assert image.id == found["pulled"]
    assert found["tag"] in image.tags
