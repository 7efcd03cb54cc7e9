"""`wheelyard audit`: a published image's parts, licences and fixes, by its bill of materials."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from referring import ANY, Shelf, digest_of, referring_registry
from test_lock_debian import Archive, needs_apt

# A fixture is found by its name in this module.
from test_lock_debian import archive as archive
from test_watch_packages import serving
from tiny import Tiny, make_tiny

from wheelyard.cli import main
from wheelyard.errors import RegistryError, SignatureError, UpstreamError, UsageError
from wheelyard.images.inspect.licences import DEB, WHEEL, Licence
from wheelyard.lock.stages import load_stages
from wheelyard.lock.upstream.packages import fixed_packages
from wheelyard.model import LockedDeb, PackageLock
from wheelyard.oci.address import parse_address
from wheelyard.oci.layout import MANIFEST_TYPE, Descriptor
from wheelyard.publish.attest.cosign import add_attestations
from wheelyard.publish.attest.envelope import seal
from wheelyard.publish.attest.sbom import sbom
from wheelyard.publish.attest.signatures import sign_image
from wheelyard.publish.attest.statements import BILL, BILL_TYPE, bill_statement
from wheelyard.registry.client import Registry, open_registry
from wheelyard.registry.referrers import attach

LICENCES = {
    (WHEEL, "torch"): Licence(("BSD-3-Clause",), is_expression=True),
    (DEB, "git"): Licence(("GPL-2", "LGPL-2.1+")),
}
CHANGELOG = "git (2.0) x; urgency=high\n\n  * CVE-2026-1234\n\n -- T\n\ngit (1.0) x; urgency=low\n"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    """A registry with one image, `pytorch:1`."""
    with referring_registry(ANY) as made:
        blob = {"mediaType": "x/y", "digest": digest_of(b"{}"), "size": 2}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": blob, "layers": []}
        data = json.dumps(manifest).encode()
        made.manifests |= {"pytorch/1": data, f"pytorch/{digest_of(data)}": data}
        yield made


def connected(shelf: Shelf, tiny: Tiny) -> AbstractContextManager[Registry]:
    return open_registry(parse_address(shelf.url), tiny.context.settings, tiny.context.reporter)


def bill(shelf: Shelf, tiny: Tiny) -> tuple[str, str]:
    digest = digest_of(shelf.manifests["pytorch/1"])
    return digest, sbom(
        "pytorch", digest, load_stages(tiny.cell("devel"), tiny.plan, tiny.folder), LICENCES
    )


def attached(shelf: Shelf, tiny: Tiny, content: bytes | None = None) -> str:
    digest, text = bill(shelf, tiny)
    with connected(shelf, tiny) as registry:
        size = len(shelf.manifests["pytorch/1"])
        subject = Descriptor(MANIFEST_TYPE, digest, size)
        attach(registry, "pytorch", subject, BILL_TYPE, content or text.encode(), {})
    return digest


def audit(shelf: Shelf, tiny: Tiny, *words: str | Path) -> int:
    where = ["--registry", shelf.url, "--cache-dir", tiny.context.settings.cache_dir]
    return main(["audit", "pytorch:1", *map(str, where), *map(str, words)])


def test_licences_by_the_attached_bill(shelf: Shelf, tiny: Tiny, capsys: Any) -> None:
    digest = attached(shelf, tiny)
    assert audit(shelf, tiny, "--licences-only", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["digest"] == digest
    parts = {(part["type"], part["name"]): part for part in found["parts"]}
    assert parts["pypi", "torch"]["licences"] == ["BSD-3-Clause"]
    assert parts["deb", "git"]["licences"] == ["GPL-2", "LGPL-2.1+"]
    assert parts["pypi", "pip"] == {
        "type": "pypi", "name": "pip", "version": "26.0", "licences": [], "fixes": [],
        "details": [],
    }  # fmt: skip
    assert audit(shelf, tiny, "--licences-only") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if line.startswith("torch ")] == [
        ["torch", "2.3.1", "BSD-3-Clause"]
    ]
    assert main(["audit", f"pytorch@{digest}", "--registry", shelf.url, "--licences-only"]) == 0


def test_only_a_signed_bill_counts_with_a_key(
    shelf: Shelf, tiny: Tiny, tmp_path: Path, capsys: Any
) -> None:
    """And an unsigned one beside it, or one of another image, does not."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = tmp_path / "key.pub"
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    words: list[str | Path] = ["--licences-only", "--verify-key", public]
    attached(shelf, tiny, b'{"components": []}')
    assert audit(shelf, tiny, *words) == SignatureError.exit_code
    digest, text = bill(shelf, tiny)
    with connected(shelf, tiny) as registry:
        sign_image(registry, "pytorch", digest, key)
        assert audit(shelf, tiny, *words) == SignatureError.exit_code
        assert "has no signed bill of materials" in capsys.readouterr().err
        other = bill_statement("x", f"sha256:{'ab' * 32}", text).encode()
        add_attestations(registry, "pytorch", digest, {BILL: seal(key, other)})
        assert audit(shelf, tiny, *words) == SignatureError.exit_code
        forged = ec.generate_private_key(ec.SECP256R1())
        own = bill_statement("x", digest, text).encode()
        add_attestations(registry, "pytorch", digest, {BILL: seal(forged, own)})
        assert audit(shelf, tiny, *words) == SignatureError.exit_code
        add_attestations(registry, "pytorch", digest, {BILL: seal(key, own)})
    assert audit(shelf, tiny, *words) == 0
    assert "BSD-3-Clause" in capsys.readouterr().out


def component(**fields: object) -> bytes:
    made: dict[str, object] = {"name": "git", "version": "1.0"}
    made["purl"] = "pkg:deb/debian/git@1.0?arch=all&distro=bookworm"
    return json.dumps({"components": [made | fields]}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"{", b"[]", b"{}", component(name="-o=Dir::Etc=/x"), component(version="1 2"),
        component(purl="x"), component(purl="pkg:deb/debian/git@1?arch=all&distro=--help"),
        component(purl="pkg:deb/debian/git@1?distro=bookworm"), component(licenses=3),
        component(hashes=[{"alg": "SHA-256", "content": "x"}]),
    ],
)  # fmt: skip
def test_a_bill_of_a_stranger_is_held_to_its_form(
    content: bytes, shelf: Shelf, tiny: Tiny, capsys: Any
) -> None:
    attached(shelf, tiny, content)
    assert audit(shelf, tiny) == RegistryError.exit_code
    said = capsys.readouterr().err
    assert "its bill of materials is not wheelyard's" in said
    assert "Traceback" not in said


def test_what_is_missing_is_said(shelf: Shelf, tiny: Tiny, capsys: Any) -> None:
    assert audit(shelf, tiny) == RegistryError.exit_code
    assert "pytorch:1 has no bill of materials" in capsys.readouterr().err
    assert main(["audit", "pytorch:2", "--registry", shelf.url]) == RegistryError.exit_code
    assert main(["audit", "pytorch:1"]) == UsageError.exit_code
    both = ["--licences-only", "--advisories", "x"]
    assert audit(shelf, tiny, *both) == UsageError.exit_code


def test_advisories_of_the_wheels(shelf: Shelf, tiny: Tiny, tmp_path: Path, capsys: Any) -> None:
    attached(shelf, tiny, json.dumps({"components": [
        {"name": "torch", "version": "2.3.1", "purl": "pkg:pypi/torch@2.3.1"},
        {"name": "pip", "version": "26.0", "purl": "pkg:pypi/pip@26.0"},
    ]}).encode())  # fmt: skip
    package = {"ecosystem": "PyPI", "name": "torch"}
    events = [{"introduced": "0"}, {"fixed": "2.6"}]
    affected = {"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    open_one = {"package": {"ecosystem": "PyPI", "name": "pip"}, "versions": ["26"]}
    path = tmp_path / "osv.json"
    path.write_text(json.dumps([
        {"id": "CVE-2026-1", "affected": [affected], "database_specific": {"severity": "HIGH"}},
        {"id": "PYSEC-9", "affected": [open_one]},
    ]))  # fmt: skip
    assert audit(shelf, tiny, "--advisories", path) == UpstreamError.exit_code
    out, err = capsys.readouterr()
    assert "torch  2.3.1    -                      high: CVE-2026-1\n" in out
    assert "pip    26.0     -                      no fix: PYSEC-9\n" in out
    assert "does not list what is open" in out
    assert "2 part(s) have updates with fixes" in err


@needs_apt
def test_what_updates_of_its_packages_fix(archive: Archive, tiny: Tiny) -> None:
    archive.add("git", "2.0", CHANGELOG)
    archive.publish()
    debs = tuple(LockedDeb(name, "1.0", "all", "", 0, "", "") for name in ("git", "gone"))
    lock = PackageLock("image", "", "bookworm", "", debs)
    with serving(archive) as (source, _):
        found = {x.subject: x for x in fixed_packages(tiny.context, lock, [source])}
    assert [fix.name for fix in found["git 1.0"].fixes or ()] == ["CVE-2026-1234"]
    assert found["gone 1.0"].fixes is None
