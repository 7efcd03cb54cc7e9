"""What is attached to an image: the same document whenever it is made, and true to the locks."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.model.bom import Bom
from referring import referring_registry
from tiny import Tiny, make_tiny

from builder.assemble.layout import Descriptor
from builder.attest.sbom import sbom
from builder.attest.statements import Source, provenance_statement, verification_statement
from builder.building.stages import Stage, load_stages
from builder.console.progress import QuietReporter
from builder.registry.address import parse_address
from builder.registry.client import open_registry
from builder.registry.referrers import PREDICATE, attach, referrers

DIGEST = f"sha256:{'ab' * 32}"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def stages(tiny: Tiny) -> tuple[Stage, ...]:
    return load_stages(tiny.cell("devel"), tiny.plan, tiny.folder)


class TestSbom:
    def test_names_every_wheel_and_package_once(self, stages: tuple[Stage, ...]) -> None:
        """Read back by the library's own reader."""
        bom: Any = Bom.from_json(json.load(io.StringIO(sbom("pytorch", DIGEST, stages))))  # type: ignore[attr-defined]
        expected = {w.sha256 for s in stages for w in s.lock.wheels}
        expected |= {d.sha256 for s in stages for d in s.packages.packages}
        assert {next(iter(x.hashes)).content for x in bom.components} == expected
        purls = {str(component.purl) for component in bom.components}
        assert len(purls) == len(expected)
        assert any(purl.startswith("pkg:pypi/torch@2.3.1?") for purl in purls)
        assert "pkg:deb/debian/git@1.0?arch=all&distro=bookworm" in purls

    def test_is_the_same_whenever_it_is_made(self, stages: tuple[Stage, ...]) -> None:
        assert sbom("pytorch", DIGEST, stages) == sbom("pytorch", DIGEST, stages)
        other = sbom("pytorch", f"sha256:{'cd' * 32}", stages)
        serials = {json.loads(x)["serialNumber"] for x in (other, sbom("pytorch", DIGEST, stages))}
        assert len(serials) == 2

    def test_names_no_place(self, stages: tuple[Stage, ...], tmp_path: Path) -> None:
        text = sbom("pytorch", DIGEST, stages)
        assert "http" not in text.replace("http://cyclonedx.org/schema", "")


class TestStatements:
    def test_provenance_names_locks_revision_and_layers(self) -> None:
        layers = [{"title": "base", "digest": f"sha256:{'11' * 32}"}]
        locks = [("images/x/requirements.lock", "22" * 32)]
        source = Source("33" * 20, clean=True, version="1.0")
        made = provenance_statement("pytorch", DIGEST, "x", locks, layers, source)
        statement = json.loads(made)
        assert statement["subject"] == [{"name": "pytorch", "digest": {"sha256": "ab" * 32}}]
        definition = statement["predicate"]["buildDefinition"]
        assert definition["resolvedDependencies"] == [
            {"uri": "images/x/requirements.lock", "digest": {"sha256": "22" * 32}},
            {"uri": "git+file:.", "digest": {"gitCommit": "33" * 20}},
        ]
        assert statement["predicate"]["runDetails"]["byproducts"][0]["name"] == "base"

    def test_without_a_checkout_no_revision_is_claimed(self) -> None:
        source = Source(None, clean=False, version="1.0")
        made = json.loads(provenance_statement("p", DIGEST, "x", [], [], source))
        definition = made["predicate"]["buildDefinition"]
        assert definition["resolvedDependencies"] == []
        assert definition["internalParameters"] == {"clean": False}

    def test_verification_says_what_was_seen(self) -> None:
        made = json.loads(verification_statement("p", DIGEST, {"CUDA": "12.1", "user": "dev"}))
        assert made["predicate"]["passedTests"] == ["CUDA", "user"]
        assert made["predicate"]["seen"]["CUDA"] == "12.1"


def test_a_registry_that_lists_referrers_itself_gets_no_tag(tiny: Tiny) -> None:
    subject = Descriptor("application/vnd.oci.image.manifest.v1+json", DIGEST, 7)
    with (
        referring_registry() as shelf,
        open_registry(parse_address(shelf.url), tiny.context.settings, QuietReporter(None)) as to,
    ):
        for _ in range(2):
            told = {PREDICATE: "kind"}
            digest = attach(to, "x", subject, "application/vnd.in-toto+json", b"{}\n", told)
        (entry,) = referrers(to, "x", DIGEST)
    assert (entry["digest"], entry["annotations"]) == (digest, {PREDICATE: "kind"})
    assert set(shelf.manifests) == {digest}
    assert json.loads(shelf.manifests[digest])["subject"] == subject.as_json()
