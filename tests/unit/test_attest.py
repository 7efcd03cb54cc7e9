"""What is attached to an image: the same document whenever it is made, and true to the locks."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.model.bom import Bom
from referring import referring_registry
from tiny import Tiny, make_tiny

from wheelyard.console.progress import QuietReporter
from wheelyard.images.inspect.licences import (
    DEB,
    WHEEL,
    Licence,
    package_licence,
    package_licences,
    wheel_licence,
)
from wheelyard.images.inspect.tree import LayerContents, Tree
from wheelyard.lock.stages import Stage, load_stages
from wheelyard.oci.address import parse_address
from wheelyard.oci.layout import Descriptor, digest_of
from wheelyard.oci.reindex import reindex
from wheelyard.publish.attest.sbom import sbom
from wheelyard.publish.attest.statements import (
    ProjectSource,
    provenance_statement,
    verification_statement,
)
from wheelyard.registry.client import open_registry
from wheelyard.registry.referrers import PREDICATE, attach, referrers

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
        source = ProjectSource("33" * 20, clean=True, version="1.0")
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
        source = ProjectSource(None, clean=False, version="1.0")
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


def test_a_bill_states_licences_that_were_read(stages: tuple[Stage, ...]) -> None:
    licences = {
        (WHEEL, "torch"): Licence(("BSD-3-Clause AND MIT",), is_expression=True),
        (WHEEL, "pip"): Licence(("MIT License", "Apache\u00e9")),
        (DEB, "git"): Licence(("GPL-2", "GPL-3+")),
        (DEB, "pip"): Licence(("of another kind",)),
        (WHEEL, "demo"): Licence(),
    }
    text = sbom("pytorch", DIGEST, stages, licences)
    assert text == sbom("pytorch", DIGEST, stages, dict(reversed(licences.items())))
    stated = {x["name"]: x["licenses"] for x in json.loads(text)["components"] if "licenses" in x}
    said = {"acknowledgement": "declared"}
    assert stated == {
        "torch": [{"expression": "BSD-3-Clause AND MIT"} | said],
        "pip": [{"license": {"name": "Apache\u00e9"} | said},
                {"license": {"name": "MIT License"} | said}],
        "git": [{"license": {"name": "GPL-2"} | said}, {"license": {"name": "GPL-3+"} | said}],
    }  # fmt: skip
    assert Bom.from_json(json.loads(text))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("expression", "classifiers", "text", "names"),
    [
        ("mit or apache-2.0", ["License :: X"], "Y", ("MIT OR Apache-2.0",)),
        ("my own", [], None, ("my own",)),
        (None, ["License :: OSI Approved :: BSD License", "Topic :: X"], "x", ("BSD License",)),
        (None, ["License :: OSI Approved"], "  BSD-3\n", ("BSD-3",)),
        (None, [], "UNKNOWN", ()),
        (None, [], "Permission is hereby granted " * 9, ()),
        (None, [], None, ()),
    ],
)
def test_what_a_wheel_says_of_its_licence(
    expression: str | None, classifiers: list[str], text: str | None, names: tuple[str, ...]
) -> None:
    found = wheel_licence(expression, classifiers, text)
    assert found == Licence(names, is_expression=names == ("MIT OR Apache-2.0",))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Format: x\n\nFiles: *\nLicense: GPL-2+\n text\n\nLicense: BSD\n\nLicense: GPL-2+\n",
         ("GPL-2+", "BSD")),
        ("See /usr/share/common-licenses/GPL-2, /usr/share/common-licenses/LGPL-2.1.\nLicense: x",
         ("GPL-2", "LGPL-2.1")),
        ("Public domain.", ()),
    ],
)  # fmt: skip
def test_what_a_package_says_of_its_licence(text: str, names: tuple[str, ...]) -> None:
    assert package_licence(text).names == names


def test_licences_are_read_from_an_image(tmp_path: Path) -> None:
    """Of a package also where its folder is a link to another one's."""
    written = tmp_path / "layer"
    with written.open("wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for path, content in (
            ("usr/share/doc/gcc/copyright", b"Format: x\nLicense: GPL-3\n"),
            ("usr/share/doc/huge/copyright", b"License: x\n" * 100_000),
        ):
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (("libgcc", "link"), ("link", "gcc"), ("loop", "loop")):
            link = tarfile.TarInfo(f"usr/share/doc/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    diff_id = digest_of(gzip.decompress(written.read_bytes()))
    entries = reindex(written, digest_of(written.read_bytes()), diff_id, lambda _: None)
    tree = Tree([LayerContents(written, entries, "x", from_wheels=False)])
    found = package_licences(tree, ("gcc", "libgcc", "huge", "gone", "loop"))
    assert found == dict.fromkeys(("gcc", "libgcc"), Licence(("GPL-3",)))
