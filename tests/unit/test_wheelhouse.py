"""Locked files served to RUN steps: from the cache, while they arrive, and when they do not."""

from __future__ import annotations

import hashlib
import http.client
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from loopback import Server as Upstream
from loopback import serve
from tiny import Tiny, locked, make_tiny

from wheelyard.dockerfiles import wheelhouse
from wheelyard.dockerfiles.prefetched import PrefetchedFiles, WantedFile
from wheelyard.dockerfiles.wheelhouse import (
    CONNECTIONS,
    NAME,
    Content,
    Server,
    open_wheelhouse,
    remembered,
)
from wheelyard.errors import FetchError
from wheelyard.fetching.wanted import Download
from wheelyard.model import LockedDeb, LockedWheel

BODY = bytes(range(256)) * 8192


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def wheel(body: bytes = BODY) -> LockedWheel:
    digest = hashlib.sha256(body).hexdigest()
    return LockedWheel("demo-x", "1.0", "demo_x-1.0-py3-none-any.whl", digest, len(body))


@contextmanager
def house(
    tiny: Tiny, wheels: list[LockedWheel], url: str, debs: tuple[LockedDeb, ...] = ()
) -> Iterator[Server]:
    """A wheelhouse that fetches what it lacks below `url`."""
    wanted = [WantedFile(w.filename, w.sha256, w.size) for w in wheels]
    wanted += [WantedFile("d.deb", d.sha256, d.size) for d in debs]

    def find(missing: Collection[str], _refuse: object) -> list[Download]:
        return [
            Download(f"{url}/{w.filename}", w.filename, w.sha256, w.size)
            for w in wanted
            if w.sha256 in missing
        ]

    content = Content(
        PrefetchedFiles(wanted, find, tiny.context),
        wheels,
        debs,
        lambda deb, file, name: f"Package: {deb.name}\nFilename: {name}\n",
    )
    with open_wheelhouse(content, tiny.folder) as server:
        yield server


def get(server: Server, path: str) -> bytes:
    root = f"http://127.0.0.1:{server.server_port}/{server.content.token}"
    with urllib.request.urlopen(f"{root}/{path}", timeout=20) as answer:
        return bytes(answer.read())


@contextmanager
def refused(status: str) -> Iterator[None]:
    """The server answers with this status; the answer is closed, as Python 3.14 wants it."""
    with pytest.raises(urllib.error.HTTPError, match=status) as found:
        yield
    found.value.close()


def test_a_file_of_the_cache_is_offered_as_an_index_offers_it(tiny: Tiny) -> None:
    torch = locked(tiny.wheels["torch"])
    with house(tiny, [torch], "http://127.0.0.1:1") as server:
        page = get(server, "simple/torch/").decode()
        (href, digest) = re.findall(r'href="\.\./\.\./(.*?)#sha256=(.*?)"', page)[0]
        assert digest == torch.sha256
        assert get(server, href) == tiny.wheels["torch"].read_bytes()


def test_a_file_is_served_while_it_arrives_and_kept(tiny: Tiny) -> None:
    wanted = wheel()
    with serve(Upstream({f"/{wanted.filename}": BODY}, pace=0.005)) as upstream:
        with house(tiny, [wanted], upstream.url) as server:
            assert get(server, f"files/{wanted.sha256}/{wanted.filename}") == BODY
        assert len(upstream.requests) == 1
        with house(tiny, [wanted], upstream.url) as server:
            assert get(server, f"files/{wanted.sha256}/{wanted.filename}") == BODY
        assert len(upstream.requests) == 1


def test_a_lost_connection_is_resumed_unseen(tiny: Tiny) -> None:
    body = BODY + b"resumed"
    wanted = wheel(body)
    with (
        serve(Upstream({f"/{wanted.filename}": body}, faults=["drop"])) as upstream,
        house(tiny, [wanted], upstream.url) as server,
    ):
        assert get(server, f"files/{wanted.sha256}/{wanted.filename}") == body
        assert len(upstream.requests) == 2


def test_a_file_that_is_gone_is_told_to_both_sides(tiny: Tiny) -> None:
    wanted = wheel(b"gone")
    with (
        serve(Upstream({}, always="404")) as upstream,
        house(tiny, [wanted], upstream.url) as server,
    ):
        with refused("502"):
            get(server, f"files/{wanted.sha256}/{wanted.filename}")
        failure = server.content.files.failure
        assert isinstance(failure, FetchError)
        assert "the server does not have the file" in str(failure)


def test_other_bytes_than_the_locked_ones_never_arrive_whole(tiny: Tiny) -> None:
    wanted = wheel(BODY + b"right")
    wrong = BODY + b"wrong"
    with (
        serve(Upstream({f"/{wanted.filename}": wrong})) as upstream,
        house(tiny, [wanted], upstream.url) as server,
    ):
        with pytest.raises((urllib.error.HTTPError, http.client.IncompleteRead)):
            get(server, f"files/{wanted.sha256}/{wanted.filename}")
        with pytest.raises(FetchError, match=r"SHA-256|expected"):
            server.content.files.path(wanted.sha256)


def test_packages_are_an_archive_that_apt_reads(tiny: Tiny) -> None:
    body = b"!<arch>\n"
    deb = LockedDeb("git", "1:2", "amd64", hashlib.sha256(body).hexdigest(), len(body), "debian",
                    "pool/d.deb")  # fmt: skip
    with (
        serve(Upstream({"/d.deb": body})) as upstream,
        house(tiny, [], upstream.url, (deb,)) as server,
    ):
        index = get(server, "debian/./Packages").decode()
        name = re.findall("Filename: (.*)", index)[0]
        assert get(server, f"debian/{name}") == body


@pytest.mark.parametrize("path", ["simple/nothing/", "files/../../etc/passwd", "debian/x", "x"])
def test_nothing_else_is_served(tiny: Tiny, path: str) -> None:
    with (
        house(tiny, [], "http://127.0.0.1:1") as server,
        refused("404"),
    ):
        get(server, path)


def test_whoever_does_not_know_the_path_gets_nothing(tiny: Tiny, tmp_path: Path) -> None:
    torch = locked(tiny.wheels["torch"])
    with house(tiny, [torch], "http://127.0.0.1:1") as server:
        server.content.token, token = "0" * 16, server.content.token
        with refused("404"):
            urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/{token}/simple/torch/")
    assert re.fullmatch(r"wheelhouse-\d+-[0-9a-f]{16}", server.host_name)


class TestName:
    """BuildKit counts the name of a wheelhouse to the steps that use it."""

    def test_it_stays_from_build_to_build(self, tiny: Tiny) -> None:
        names = set()
        for _ in range(2):
            with house(tiny, [], "") as server:
                names.add(server.host_name)
                assert get(server, "") == b"wheelhouse\n"
        assert len(names) == 1

    def test_only_its_user_may_read_it(self, tiny: Tiny) -> None:
        with house(tiny, [], ""):
            assert (tiny.folder / NAME).stat().st_mode & 0o777 == 0o600

    def test_two_builds_at_once_have_two(self, tiny: Tiny) -> None:
        with house(tiny, [], "") as first, house(tiny, [], "") as second:
            assert first.server_port != second.server_port
            assert get(second, "") == b"wheelhouse\n"

    @pytest.mark.parametrize(
        "content", ["", "[]", "{}", '{"port": 99999999, "token": "0123456789abcdef"}',
                    '{"port": 9, "token": "x y"}'],
    )  # fmt: skip
    def test_a_damaged_one_is_not_used(self, tiny: Tiny, tmp_path: Path, content: str) -> None:
        (tmp_path / NAME).write_text(content)
        served = Content(PrefetchedFiles([], lambda *_: [], tiny.context), (), (), lambda *_: "")
        with open_wheelhouse(served, tmp_path) as server:
            assert get(server, "") == b"wheelhouse\n"


class TestPeopleWhoOnlyWait:
    """Requests that never end hold no thread for long, and nobody else up."""

    def connect(self, server: Server, said: bytes) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", server.server_port), 5)
        made.sendall(said)
        return made

    def threads(self) -> int:
        return sum("process_request_thread" in thread.name for thread in threading.enumerate())

    @pytest.mark.parametrize("said", [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\r\n"])
    def test_there_are_never_too_many(self, tiny: Tiny, said: bytes) -> None:
        with house(tiny, [], "") as server:
            waiting = [self.connect(server, said) for _ in range(3 * CONNECTIONS)]
            assert get(server, "") == b"wheelhouse\n"
            deadline = time.monotonic() + 10  # those that were hung up on end when they can
            while self.threads() > CONNECTIONS + 5:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            for one in waiting:
                one.close()

    @pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"])
    def test_they_are_hung_up_on(
        self, tiny: Tiny, said: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(wheelhouse, "PATIENCE", 0.3)
        with house(tiny, [], "") as server, self.connect(server, said) as waiting:
            assert waiting.recv(1) == b""

    def test_a_byte_now_and_then_helps_nobody(
        self, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(wheelhouse, "PATIENCE", 1.0)
        with house(tiny, [], "") as server, self.connect(server, b"GET /") as waiting:
            started = time.monotonic()
            with suppress(OSError):  # as a connection ends
                while time.monotonic() - started < 15:
                    waiting.sendall(b"x")
                    time.sleep(0.1)
            assert time.monotonic() - started < 10

    def test_who_is_being_served_is_not(self, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
        """However long the file takes to come."""
        monkeypatch.setattr(wheelhouse, "PATIENCE", 0.2)
        wanted = wheel()
        upstream = Upstream({f"/{wanted.filename}": BODY}, pace=0.05)
        with serve(upstream), house(tiny, [wanted], upstream.url) as server:
            assert get(server, f"files/{wanted.sha256}/{wanted.filename}") == BODY

    def test_projects_on_one_cache_do_not_know_each_others_name(self, tiny: Tiny) -> None:
        other = replace(tiny.context.settings, project=tiny.folder / "other")
        assert remembered(other) != remembered(tiny.context.settings)
        assert remembered(other).parent == remembered(tiny.context.settings).parent


def test_a_context_is_laid_out_and_nothing_is_fetched_for_it(tiny: Tiny) -> None:
    with house(tiny, [wheel(b"never fetched")], "http://127.0.0.1:1") as server:
        with urllib.request.urlopen(server.lay_out(b"a tar"), timeout=20) as answer:
            assert answer.read() == b"a tar"
        assert server.content.files.failure is None
        with refused("404"):
            get(server, "contexts/0123.tar")
