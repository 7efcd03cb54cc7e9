"""No reply fills the memory, comes packed unasked, or lasts for ever; which hosts go by a proxy."""

from __future__ import annotations

import gzip
import io
import json
import socket
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from answering import Answer, Asked, answering, bearer

from wheelyard.console.progress import PlainReporter, QuietReporter
from wheelyard.errors import FetchError, RegistryError
from wheelyard.fetching.download import Session, download
from wheelyard.fetching.guard import bypasses
from wheelyard.fetching.patience import Patience
from wheelyard.fetching.replies import Refused, Slow
from wheelyard.fetching.transport import make_client, read_page
from wheelyard.fetching.wanted import Download
from wheelyard.oci.address import Address, parse_address
from wheelyard.oci.layout import CONFIG_TYPE, MANIFEST_TYPE, Layout, digest_of
from wheelyard.publish.catalogue import fetch_catalogue
from wheelyard.registry.client import MANIFEST_LIMIT, get_content, manifest_digest, open_registry
from wheelyard.registry.push import NotPushed, Publication, push_images
from wheelyard.registry.referrers import referrers
from wheelyard.settings import load_settings

DIGEST = digest_of(b"{}")
MEMORY = 100 << 20  # bytes that an answer may cost at most
ZEROS = bytes(1 << 20)


def bomb() -> bytes:
    """A megabyte that is a gigabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    first = packer.compress(ZEROS * 16) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(ZEROS * 16) + packer.flush(zlib.Z_FULL_FLUSH)  # like all that follow it
    ending = b"\3\0" + struct.pack("<II", 0x5B64C2B0, len(ZEROS) * 1024)  # its CRC-32 and size
    return first + again * 63 + ending


BOMB = bomb()


ASKS: dict[str, Callable[..., object]] = {
    "manifest": lambda r: get_content(r, "x", "manifests", "latest"),
    "blob": lambda r: get_content(r, "x", "blobs", DIGEST),
    "catalogue": fetch_catalogue,
    "referrers": lambda r: referrers(r, "x", DIGEST),
}


def refusal(answer: Callable[[Asked], Answer], kind: str, timeout: float = 10) -> str:
    """How an answer is refused, with its memory and its time measured."""
    patience = Patience(attempts=2, first_wait=0)
    started = time.monotonic()
    tracemalloc.start()
    try:
        with answering(answer) as origin:
            given = load_settings({"project": str(Path(__file__).parents[2]), "timeout": timeout})
            address = parse_address(origin.url)
            with (
                open_registry(address, given, QuietReporter(None), patience) as registry,
                pytest.raises(RegistryError) as caught,
            ):
                ASKS[kind](registry)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    assert time.monotonic() - started < 30
    return str(caught.value)


@pytest.mark.parametrize("kind", ASKS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x-gzip"])
def test_packed_replies_are_refused(kind: str, encoding: str) -> None:
    said = refusal(lambda _: Answer(headers={"Content-Encoding": encoding}, body=[BOMB]), kind)
    assert "compressed its reply" in said


@pytest.mark.parametrize("kind", ASKS)
def test_a_reply_that_says_it_is_long_is_not_read(kind: str) -> None:
    headers = {"Content-Length": str(1 << 40)}
    said = refusal(lambda _: Answer(headers=headers, body=[ZEROS], sized=False), kind)
    assert "sends more than" in said


@pytest.mark.parametrize("kind", ASKS)
def test_a_body_without_end_is_cut_off(kind: str) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(body=(ZEROS for _ in range(200)), sized=False)

    assert "sends more than" in refusal(answer, kind)


@pytest.mark.parametrize("kind", ASKS)
@pytest.mark.parametrize("status", [404, 403, 500])
def test_so_is_an_error_without_end(kind: str, status: int) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(status, body=(ZEROS for _ in range(200)), sized=False)

    with answering(answer) as origin:
        given = load_settings({"project": str(Path(__file__).parents[2])})
        patience = Patience(attempts=1, first_wait=0)
        tracemalloc.start()
        with open_registry(
            parse_address(origin.url), given, QuietReporter(None), patience
        ) as registry:
            if status == 404 and kind in ("catalogue", "referrers"):
                assert not ASKS[kind](registry)
            else:
                with pytest.raises(Exception, match=str(status)):
                    ASKS[kind](registry)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEMORY


def test_a_token_without_end_is_cut_off() -> None:
    def give(asked: Asked) -> Answer:
        return Answer(body=(ZEROS for _ in range(200)), sized=False)

    with answering(give) as realm:
        assert "sends more than" in refusal(lambda _: bearer(f"{realm.url}/token"), "blob")


def test_a_packed_token_is_refused() -> None:
    packed = Answer(headers={"Content-Encoding": "gzip"}, body=[BOMB])
    with answering(lambda _: packed) as realm:
        assert "compressed its reply" in refusal(lambda _: bearer(f"{realm.url}/token"), "blob")


def slowly(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        time.sleep(0.05)
        yield piece


@pytest.mark.parametrize("kind", ASKS)
def test_a_reply_that_trickles_is_given_up(kind: str) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(body=slowly([b" "] * 200), sized=False)

    assert "too slow" in refusal(answer, kind, timeout=1)


def test_as_much_as_may_come_does() -> None:
    content = b" " * (MANIFEST_LIMIT - 2) + b"{}"
    with answering(lambda _: Answer(body=[content])) as origin:
        given = load_settings({"project": str(Path(__file__).parents[2])})
        with open_registry(parse_address(origin.url), given, QuietReporter(None)) as registry:
            assert get_content(registry, "x", "manifests", "latest") == content


def test_a_head_says_how_long_a_blob_is() -> None:
    """Its length is no reply's."""
    headers = {"Content-Length": str(1 << 40), "Docker-Content-Digest": DIGEST}
    with answering(lambda _: Answer(headers=headers, sized=False)) as origin:
        given = load_settings({"project": str(Path(__file__).parents[2])})
        with open_registry(parse_address(origin.url), given, QuietReporter(None)) as registry:
            assert manifest_digest(registry, "x", "latest") == DIGEST


def page(answer: Answer, **given: object) -> bytes:
    values = {"project": str(Path(__file__).parents[2]), **given}
    with answering(lambda _: answer) as origin, make_client(load_settings(values)) as client:
        return read_page(client, f"{origin.url}/simple/x/", "*/*")[1]


def test_a_page_may_be_packed() -> None:
    packed = gzip.compress(b"<!DOCTYPE html>" * 1000)
    answer = Answer(headers={"Content-Encoding": "gzip"}, body=[packed])
    assert page(answer) == b"<!DOCTYPE html>" * 1000


@pytest.mark.parametrize(
    ("body", "encoding", "says"),
    [
        (BOMB, "gzip", "sends more than"),
        (gzip.compress(b"x" * 1000)[:-200] + bytes(200), "gzip", "is damaged"),
        (b"no gzip", "gzip", "is damaged"),
        (BOMB, "deflate", "compressed its reply"),
        (BOMB, "gzip, gzip", "compressed its reply"),
    ],
)
def test_but_not_without_bound(body: bytes, encoding: str, says: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match=says):
            page(Answer(headers={"Content-Encoding": encoding}, body=[body]))
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


def test_a_page_that_trickles_is_given_up() -> None:
    with pytest.raises(Slow, match="too slow"):
        page(Answer(body=slowly([b" "] * 200), sized=False), timeout=1)


def test_a_file_that_trickles_is_given_up(tmp_path: Path) -> None:
    """Each attempt brings some bytes, and would for years."""

    def answer(asked: Asked) -> Answer:
        headers = {"Content-Length": "1000000", "Accept-Ranges": "bytes"}
        return Answer(headers=headers, body=slowly([b" "] * 100), sized=False)

    given = load_settings({"project": str(Path(__file__).parents[2]), "timeout": 1})
    with answering(answer) as origin, make_client(given) as client:
        item = Download(f"{origin.url}/x.whl", "x.whl", "0" * 64, 1_000_000)
        session = Session(client, QuietReporter(None), Patience(attempts=2, first_wait=0))
        with pytest.raises(FetchError, match="gave up after 2 attempts"):
            download(item, tmp_path, session)
        assert len(origin.asked) == 2


@pytest.mark.parametrize(
    ("listed", "host", "port", "direct"),
    [
        ("10.0.0.0/8", "10.1.2.3", None, True),
        ("10.0.0.0/8", "11.1.2.3", None, False),
        ("10.0.0.0/8", "registry.example", None, False),
        ("10.1.0.0/8", "10.9.9.9", None, True),  # with bits of the host
        ("fd00::/8", "fd00::1", 5000, True),
        ("fd00::/8", "[fd00::1]", 5000, True),
        ("fd00::/8", "fe00::1", 5000, False),
        ("::1", "::1", None, True),
        ("[::1]", "::1", None, True),
        ("192.168.1.7", "192.168.1.7", 80, True),
        ("192.168.1.7", "192.168.1.70", 80, False),
        ("10.0.0.0/8, 172.16.0.0/12", "172.20.0.1", None, True),
        ("10.0.0.0/8 172.16.0.0/12", "172.20.0.1", None, True),
        ("example.com", "example.com", None, True),
        ("example.com", "www.example.com", None, True),
        ("example.com", "wwwexample.com", None, False),
        (".example.com", "www.example.com", None, True),
        (".example.com", "example.com", None, False),
        ("*.example.com", "www.example.com", None, True),
        ("EXAMPLE.com", "Example.COM", None, True),
        ("example.com:8080", "example.com", 8080, True),
        ("example.com:8080", "example.com", 80, False),
        ("localhost", "localhost", 5000, True),
        ("*", "anything.example", None, True),
        ("", "example.com", None, False),
        ("10.0.0.0/99", "10.0.0.1", None, False),
        ("http://example.com", "example.com", None, True),
    ],
)
def test_no_proxy(listed: str, host: str, port: int | None, direct: bool) -> None:
    assert bypasses(listed, host, port) is direct


@pytest.mark.parametrize("listed", ["127.0.0.0/8", "127.0.0.1", "", "10.0.0.0/8"])
def test_a_proxy_sees_what_no_proxy_leaves_to_it(
    listed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        answering(lambda _: Answer(body=[b"by the proxy"])) as proxy,
        answering(lambda _: Answer(body=[b"direct"])) as origin,
    ):
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", listed)
        given = load_settings({"project": str(Path(__file__).parents[2])})
        with make_client(given) as client:
            seen = read_page(client, f"{origin.url}/x", "*/*")[1]
    assert seen == (b"direct" if listed.startswith("127") else b"by the proxy")


def test_a_registry_that_is_gone_is_not_asked_for_every_image(tmp_path: Path) -> None:
    given = load_settings({"project": str(Path(__file__).parents[2])})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = Address(f"127.0.0.1:{free.getsockname()[1]}", "", "http")
    layout = Layout(tmp_path / "dist")
    layout.create()
    config = layout.put(b'{"rootfs":{"type":"layers","diff_ids":[]}}', CONFIG_TYPE)
    document = {"schemaVersion": 2, "config": config.as_json(), "layers": []}
    manifest = layout.put(json.dumps(document).encode(), MANIFEST_TYPE)
    images = [Publication(f"image-{at}", manifest.digest, (f"x:{at}",)) for at in range(8)]
    said = io.StringIO()
    patience = Patience(attempts=2, first_wait=0)
    with open_registry(address, given, PlainReporter(said), patience) as registry:
        results = push_images(registry, layout, images, (), tmp_path / "notes")
    assert [type(result) for result in results] == [NotPushed] * 8
    assert "7 more: not tried: 127.0.0.1" in said.getvalue()
    assert len(said.getvalue().splitlines()) < 8
