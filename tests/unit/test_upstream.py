"""Upstream facts: what fits what, and reading them from a wheel over HTTP ranges."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from builder.errors import FetchError
from builder.settings import Settings, load_settings
from builder.upstream import (
    dump_upstream,
    load_upstream,
    make_release,
    misfit,
    newest_for,
    parse_upstream,
)
from builder.versions import is_exact, leads, overlaps
from builder.wheelfacts import PYTHONS, read_release, read_wheel, refresh

FACTS = load_upstream()
METADATA = """\
Metadata-Version: 2.1
Name: torch
Version: 2.3.1
Requires-Dist: filelock
Requires-Dist: nvidia-cuda-runtime-cu12 (==12.1.105) ; platform_system == "Linux"
Requires-Dist: nvidia_cudnn_cu12==8.9.2.26; platform_machine == "x86_64"
Requires-Dist: nvidia-nccl-cu12==2.20.5 ; extra == "and-cuda"
Requires-Dist: nvidia-cuda-nvcc-cu12==1 ; extra == "other"
Requires-Dist: nvidia-win==1 ; platform_system == "Windows"
Requires-Dist: triton==2.3.1 ; python_version < "3.12"
"""


@pytest.mark.parametrize(
    ("asked", "specifiers", "fits"),
    [
        ("12.1", "==12.1.105", True),
        ("12.1", "==12.10.5", False),
        ("8.9", "==8.9.2.26", True),
        ("8.9.7", "==8.9.2.26", False),
        ("8.90", "==8.9.2.26", False),
        ("12.5", "<13.0,>=12.5.82", True),
        ("12.4", "<13.0,>=12.5.82", False),
        ("12.8", "<13.0,>=12.5.82", True),
        ("13.0", "<13.0,>=12.5.82", False),
        ("13.0", "==13.0.*", True),
        ("12.5", ">12.5.82,<12.6", True),
        ("12.5", ">=12.5.82,<12.5.90", True),
        ("2.3", "~=2.3.1", True),
    ],
)
def test_overlaps(asked: str, specifiers: str, fits: bool) -> None:
    assert overlaps(asked, specifiers) is fits


def test_leads_and_is_exact() -> None:
    assert leads("8.9", "8.9.2.26")
    assert not leads("8.9", "8.90.1")
    assert [is_exact(spec) for spec in ("==1.2", "==1.*", ">=1,<2", "==1.2,<3")] == [
        True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "cuda", "cudnn"),
    [
        ("2.1.2", "12.1", "8.9.2.26"),
        ("2.2.2", "12.1", "8.9.2.26"),
        ("2.3.1", "12.1", "8.9.2.26"),
        ("2.4.1", "12.1", "9.1.0.70"),
        ("2.5.1", "12.4", "9.1.0.70"),
    ],
)
def test_committed_facts_are_those_of_the_design(version: str, cuda: str, cudnn: str) -> None:
    release = FACTS["pytorch"][version]
    assert (release.cuda, release.cudnn) == (cuda, cudnn)
    assert "3.11" in release.pythons


def test_every_committed_release_fits_itself() -> None:
    for name, releases in FACTS.items():
        for release in releases.values():
            cuda = ".".join(release.cuda.split(".")[:2])
            assert misfit(name, release, cuda, release.cudnn, release.pythons[-1]) is None
            assert all(SpecifierSet(spec) is not None for spec in release.requires.values())


def test_committed_facts_name_no_host() -> None:
    assert "/" not in dump_upstream(FACTS)


def test_newest_for_a_cuda() -> None:
    assert newest_for(FACTS["pytorch"], "12.1", "3.11") == "2.4.1"
    assert newest_for(FACTS["pytorch"], "9.0", None) is None


def test_facts_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "upstream.json"
    path.write_text(dump_upstream(FACTS), encoding="utf-8")
    assert load_upstream(path) == FACTS
    assert dump_upstream(parse_upstream({})) == "{}\n"


def test_a_release_without_cudnn_is_no_release() -> None:
    with pytest.raises(ValueError, match="no cuDNN"):
        make_release("1.0", "x.whl", "12.1", ["3.11"], {"triton": "==1"})


def wheel(metadata: str = METADATA, cuda: str = "cuda: Optional[str] = '12.1'\n") -> bytes:
    """A wheel in miniature, with enough ballast to show that it is not read."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("torch/ballast.bin", b"\0" * 5_000_000)
        archive.writestr("torch/version.py", cuda)
        archive.writestr("torch-2.3.1.dist-info/METADATA", metadata)
        archive.writestr("torch-2.3.1.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    return content.getvalue()


class _Handler(BaseHTTPRequestHandler):
    files: dict[str, bytes]
    sent: list[int]
    ranges: bool = True

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _answer(self, *, body: bool) -> None:
        content = self.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        first, last = self._span(len(content))
        self.send_response(200 if (first, last) == (0, len(content) - 1) else 206)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "x/wheel")
        self.end_headers()
        if body:
            self._send(content[first : last + 1])

    def _span(self, size: int) -> tuple[int, int]:
        asked = self.headers.get("Range", "")
        if not asked or not self.ranges:
            return 0, size - 1
        first, last = asked.removeprefix("bytes=").split("-")
        if not first:
            return size - int(last), size - 1
        return int(first), min(int(last), size - 1) if last else size - 1

    def _send(self, content: bytes) -> None:
        try:
            for at in range(0, len(content), 65536):
                self.wfile.write(content[at : at + 65536])
                self.sent.append(len(content[at : at + 65536]))
        except ConnectionError:
            pass  # the reader had what it wanted


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader that goes away is part of the test."""


@contextmanager
def index(files: dict[str, bytes], *, ranges: bool = True) -> Iterator[tuple[str, list[int]]]:
    """Serve files with byte ranges on loopback; yields the address and the sizes sent."""
    sent: list[int] = []
    handler = type("Handler", (_Handler,), {"files": files, "sent": sent, "ranges": ranges})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sent
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def with_index(tmp_path: Path, url: str | None) -> Settings:
    (tmp_path / "matrix.yaml").touch()
    return load_settings(
        {"project": str(tmp_path), "cache_dir": str(tmp_path / "cache"), "index_url": url}
    )


def test_facts_are_read_from_the_wheel(tmp_path: Path) -> None:
    with index({"/torch-2.3.1-cp311-cp311-manylinux1_x86_64.whl": wheel()}) as (url, _):
        release = read_wheel(
            f"{url}/torch-2.3.1-cp311-cp311-manylinux1_x86_64.whl",
            "torch[and-cuda]",
            "2.3.1",
            ["3.11", "3.9"],
            with_index(tmp_path, None),
        )
    assert release.cuda == "12.1"
    assert release.cudnn == "8.9.2.26"
    assert release.nccl == "2.20.5"
    assert release.pythons == ("3.9", "3.11")
    assert release.requires == {
        "nvidia-cuda-runtime-cu12": "==12.1.105",
        "nvidia-cudnn-cu12": "==8.9.2.26",
        "nvidia-nccl-cu12": "==2.20.5",
        "triton": "==2.3.1",
    }


@pytest.mark.parametrize(
    ("content", "ranges", "says"),
    [
        (None, True, "404"),
        (b"not a zip", True, "cannot read"),
        (wheel(cuda="cuda = None"), True, "which CUDA it was built for"),
        (wheel(metadata="Name: torch\n"), True, "it requires no cuDNN"),
        (wheel(), False, "the server"),
    ],
)
def test_a_wheel_without_facts(
    tmp_path: Path, content: bytes | None, ranges: bool, says: str
) -> None:
    files = {} if content is None else {"/torch-2.3.1-cp311-cp311-linux_x86_64.whl": content}
    with index(files, ranges=ranges) as (url, _), pytest.raises(FetchError, match=says):
        read_wheel(
            f"{url}/torch-2.3.1-cp311-cp311-linux_x86_64.whl",
            "torch",
            "2.3.1",
            ["3.11"],
            with_index(tmp_path, None),
        )


def test_releases_are_found_through_the_index(tmp_path: Path) -> None:
    """The real uv against a small index: two Pythons, and the higher build tag."""
    names = [
        "torch-2.3.1-cp310-cp310-manylinux1_x86_64.whl",
        "torch-2.3.1-cp311-cp311-manylinux1_x86_64.whl",
        "torch-2.3.1-2-cp311-cp311-manylinux1_x86_64.whl",
        "torch-2.3.1-cp312-none-macosx_11_0_arm64.whl",
    ]
    digest = "0" * 64
    links = "".join(f'<a href="/files/{name}#sha256={digest}">{name}</a>' for name in names)
    files = {f"/files/{name}": wheel() for name in names}
    files["/simple/torch/"] = f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
    with index(files) as (url, _):
        configured = with_index(tmp_path, f"{url}/simple")
        made = refresh({}, "pytorch", "torch", ["2.3.1"], configured)
        with pytest.raises(FetchError, match="has no wheel for Linux"):
            read_release("torch", "9.9", configured, ["3.11"])
    release = made["pytorch"]["2.3.1"]
    assert set(release.pythons) <= set(PYTHONS)
    assert release.pythons == ("3.10", "3.11")
    assert release.wheel == "torch-2.3.1-2-cp311-cp311-manylinux1_x86_64.whl"
