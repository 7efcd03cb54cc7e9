"""Nothing that comes from outside becomes a path or a URL unless it is a digest."""

from __future__ import annotations

from pathlib import Path

import pytest
from loopback import Server, serve

from wheelyard.console.progress import QuietReporter
from wheelyard.digests import Digest, DigestError
from wheelyard.errors import RegistryError, StorageError
from wheelyard.images.assemble.store import LayerStore
from wheelyard.oci.address import parse_address
from wheelyard.oci.archive import blob_member
from wheelyard.oci.layout import Layout, digest_of
from wheelyard.registry.client import get_content, has_blob, manifest_digest, open_registry
from wheelyard.settings import load_settings

PROJECT = Path(__file__).parents[2]
GOOD = f"sha256:{'0123456789abcdef' * 4}"
NONE = (
    "", "latest", "sha256:", "../../..", "sha256:../../../../etc/passwd", GOOD.upper(),
    GOOD[:-1], f"{GOOD}0", f"{GOOD}\n", f" {GOOD}", GOOD.replace("0", "\u0660"), f"{GOOD}/../x",
    f"sha512:{'0' * 128}", f"md5:{'0' * 32}", "0" * 64, f"sha256:{'G' * 64}", f"{GOOD}?a=b",
)  # fmt: skip


def test_a_digest_is_taken() -> None:
    assert Digest.parse(GOOD) == GOOD
    assert Digest.parse(GOOD).sha256 == "0123456789abcdef" * 4


@pytest.mark.parametrize("text", [*NONE, None, 7, ["sha256"], GOOD.encode()])
def test_anything_else_is_none(text: object) -> None:
    with pytest.raises(DigestError, match="not a SHA-256 digest") as caught:
        Digest.parse(text)
    assert isinstance(caught.value, StorageError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("text", NONE)
def test_no_path_is_made_of_it(tmp_path: Path, text: str) -> None:
    store, layout = LayerStore(tmp_path / "store"), Layout(tmp_path / "layout")
    for use in (layout.blob, layout.read_json, store.blob, store.forget):
        with pytest.raises(DigestError):
            use(text)
    with pytest.raises(DigestError):
        blob_member(tmp_path, text)


@pytest.mark.parametrize("text", NONE)
def test_no_request_is_made_of_it(text: str) -> None:
    with serve(Server({})) as server:
        settings = load_settings({"project": str(PROJECT)})
        with open_registry(parse_address(server.url), settings, QuietReporter(None)) as registry:
            for use in (
                lambda: get_content(registry, "x", "blobs", text),
                lambda: has_blob(registry, "x", text, 1),
            ):
                with pytest.raises(RegistryError, match="not a SHA-256 digest"):
                    use()
            if text != "latest" and set(text) & set("/:?\n "):  # no tag either
                for ask in (
                    lambda: get_content(registry, "x", "manifests", text),
                    lambda: manifest_digest(registry, "x", text),
                ):
                    with pytest.raises(RegistryError, match="not a SHA-256 digest"):
                        ask()
        assert server.requests == []


def test_what_comes_for_a_digest_is_hashed() -> None:
    digest = digest_of(b"the one")
    with serve(
        Server({f"/v2/x/{kind}/{digest}": b"another" for kind in ("blobs", "manifests")})
    ) as s:
        settings = load_settings({"project": str(PROJECT)})
        with open_registry(parse_address(s.url), settings, QuietReporter(None)) as registry:
            for kind in ("blobs", "manifests"):
                with pytest.raises(RegistryError, match="does not match its digest"):
                    get_content(registry, "x", kind, digest)
