"""A registry that lists referrers itself, and strangers that copy an image with its documents."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import Tiny

from tests.engines.trixie import started_from
from tests.peers.pushed import RUNTIME, assert_whole, digest_there, layout_digest
from wheelyard.cli import main

pytestmark = pytest.mark.usefixtures("at_nobodys_home", "registry_tools")
TYPES = [
    "application/vnd.cyclonedx+json",
    "application/vnd.in-toto+json",
    "application/vnd.in-toto+json",
]


@pytest.fixture
def push(tiny: Tiny, tiny_dist: Path) -> Callable[..., int]:
    def call(address: str, *words: str | Path) -> int:
        given = ["push", "runtime", "--project", tiny.folder, "--output", tiny_dist, "--json"]
        given += ["--cache-dir", tiny.context.settings.cache_dir]
        return main([*map(str, given), "--registry", f"http://{address}", *map(str, words)])

    return call


@pytest.fixture
def oras(trixie_tools: Path) -> Callable[..., str]:
    """Debian trixie's oras on plain HTTP; what it prints."""

    def call(*words: str) -> str:
        argv = [*started_from(trixie_tools, "usr/bin/oras"), *words]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def by_api(address: str, digest: str) -> list[dict[str, Any]]:
    """What a registry itself lists."""
    with urllib.request.urlopen(f"http://{address}/v2/pytorch/referrers/{digest}") as answer:
        found: list[dict[str, Any]] = json.load(answer)["manifests"]
    return found


def discovered(oras: Callable[..., str], place: str) -> list[dict[str, Any]]:
    """What oras finds, by digest: a registry may list them in any order."""
    said = oras("discover", "--plain-http", "--format", "json", f"{place}/{RUNTIME}")
    found: list[dict[str, Any]] = json.loads(said)["manifests"]
    return sorted(found, key=lambda entry: str(entry["digest"]))


def types(address: str, entries: list[dict[str, Any]]) -> list[str]:
    """The artifacts' types, by their manifests."""
    found = []
    for entry in entries:
        url = f"http://{address}/v2/pytorch/manifests/{entry['digest']}"
        asked = urllib.request.Request(url, headers={"Accept": entry["mediaType"]})
        with urllib.request.urlopen(asked) as answer:
            found.append(json.load(answer)["artifactType"])
    return sorted(found)


def tags(address: str) -> list[str]:
    with urllib.request.urlopen(f"http://{address}/v2/pytorch/tags/list") as answer:
        found: list[str] = json.load(answer)["tags"]
    return found


def test_the_api_is_used_where_there_is_one(
    push: Callable[..., int], with_referrers: str, tiny_dist: Path, tmp_path: Path, capsys: Any
) -> None:
    digest = layout_digest(tiny_dist)
    for _ in range(2):  # the second push finds all there
        assert push(with_referrers) == 0
        assert "no documents were attached" not in capsys.readouterr().err
        entries = by_api(with_referrers, digest)
        assert types(with_referrers, entries) == TYPES
    assert not [tag for tag in tags(with_referrers) if tag.startswith("sha256-")]
    assert_whole(with_referrers, tiny_dist, tmp_path)


def test_oras_finds_the_documents_in_either(
    push: Callable[..., int],
    oras: Callable[..., str],
    with_referrers: str,
    address: str,
    tiny_dist: Path,
) -> None:
    for place in (with_referrers, address):
        assert push(place) == 0
        found = discovered(oras, place)
        assert types(place, found) == TYPES
        bill = next(one for one in found if types(place, [one]) == TYPES[:1])
        name = f"{place}/pytorch@{bill['digest']}"
        manifest = json.loads(oras("manifest", "fetch", "--plain-http", name))
        blob = f"{place}/pytorch@{manifest['layers'][0]['digest']}"
        content = json.loads(oras("blob", "fetch", "--plain-http", "--output", "-", blob))
        assert content["metadata"]["component"]["version"] == layout_digest(tiny_dist)


@pytest.mark.parametrize("there", ["api", "tags"])
def test_oras_copies_the_documents_along(
    push: Callable[..., int],
    oras: Callable[..., str],
    with_referrers: str,
    address: str,
    tiny_dist: Path,
    there: str,
    capsys: Any,
) -> None:
    """From a registry of either kind into one of the other; a push there has nothing to add."""
    source, target = (with_referrers, address) if there == "api" else (address, with_referrers)
    assert push(source) == 0
    plain = ("--from-plain-http", "--to-plain-http")
    oras("copy", "--recursive", *plain, f"{source}/{RUNTIME}", f"{target}/{RUNTIME}")
    assert digest_there(target, RUNTIME) == layout_digest(tiny_dist)
    before = discovered(oras, target)
    assert types(target, before) == TYPES
    capsys.readouterr()
    assert push(target) == 0
    (pushed,) = json.loads(capsys.readouterr().out)
    assert pushed["sent_bytes"] == 0
    assert discovered(oras, target) == before
