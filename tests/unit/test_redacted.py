"""No secret of a URL is shown, wherever in it an index has its token."""

from __future__ import annotations

import sys

import pytest

from wheelyard.errors import LockError
from wheelyard.system.subprocesses import follow, run
from wheelyard.system.urls import redact, redact_text

SECRET = "aB3dE5gH7jK9mN1pQ2"


@pytest.mark.parametrize(
    "url",
    [
        f"https://anna:{SECRET}@index.example/simple/",
        f"https://{SECRET}@index.example/simple/",
        f"https://index.example/simple/?token={SECRET}",
        f"https://index.example/simple/x/?a=b&token={SECRET}#frag",
        f"https://index.example/{SECRET}/org/repo/python/simple/",
        f"https://index.example/basic/{SECRET}/simple/torch",
        f"https://index.example/dckr_pat_{SECRET}/x",
        f"https://index.example/{SECRET}",
        f"https://index.example/1-{SECRET}.x/simple",
        f"https://anna:a/{SECRET}@index.example/simple/",
        f"file:///srv/{SECRET}/simple",
    ],
)
def test_a_token_is_not_shown(url: str) -> None:
    assert SECRET not in redact(url)
    assert "***" in redact(url)
    assert SECRET not in redact_text(f"error: {url}: refused ({url})")


def test_nor_is_a_uuid() -> None:
    url = "https://index.example/550e8400-e29b-41d4-a716-446655440000/simple"
    assert redact(url) == "https://index.example/***/simple"


@pytest.mark.parametrize(
    "url",
    [
        "https://index.example/simple/nvidia-cuda-runtime-cu12/",
        "https://index.example/whl/cu118/torch/",
        "https://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz",
        "https://index.example/f/torch-2.3.1-cp311-cp311-manylinux_2_28_x86_64.whl",
        f"https://registry.example/v2/x/blobs/sha256:{'0a' * 32}",
        f"https://registry.example/v2/x/manifests/sha256-{'0a' * 32}.sig",
        "https://index.example/simple/tensorflow-io-gcs-filesystem/",
        "http://127.0.0.1:8080/x",
        "not a url",
        "",
    ],
)
def test_what_is_none_is_shown(url: str) -> None:
    assert redact(url) == url
    assert redact_text(url) == url


def test_other_programs_words_are_redacted() -> None:
    said = f"error: https://index.example/{SECRET}/simple/x/?t={SECRET} is not there"
    program = f"import sys; print({said!r}); sys.exit({said!r})"
    with pytest.raises(LockError) as caught:
        run([sys.executable, "-c", program], error=LockError)
    assert SECRET not in str(caught.value)
    assert "index.example/***/simple/x/?***" in str(caught.value)
    lines: list[str] = []
    follow([sys.executable, "-c", program], lines.append)
    assert lines
    assert SECRET not in "".join(lines)
