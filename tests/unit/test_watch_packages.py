"""`upstream check` for the bases: Debian packages that vanished or have successors."""

from __future__ import annotations

import http.server
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from locking import make_settings
from test_lock_debian import Archive, needs_apt, resolve

# A fixture is found by its name in this module.
from test_lock_debian import archive as archive

from wheelyard.console.progress import QuietReporter
from wheelyard.context import Context
from wheelyard.errors import FetchError
from wheelyard.lock.sources import Source
from wheelyard.lock.upstream.packages import check_suite, package_findings
from wheelyard.lock.upstream.watch import UpstreamChange
from wheelyard.model import LockedDeb, PackageLock

LIBC = LockedDeb("libc6", "2.36-9", "amd64", "a" * 64, 1, "debian", "pool/libc6_2.36-9_amd64.deb")


def lock_of(*debs: LockedDeb, flavour: str = "runtime") -> PackageLock:
    return PackageLock("bookworm", flavour, "bookworm", "0" * 64, debs)


def record(version: str, sha256: str = "a" * 64) -> dict[str, str]:
    return {"Package": "libc6", "Version": version, "Architecture": "amd64", "SHA256": sha256}


@pytest.mark.parametrize(
    ("records", "kind", "says"),
    [
        ([record("2.36-9")], None, ""),
        ([], "unlisted", "no longer has a package of this name"),
        ([record("2.36-9+deb12u1")], "unlisted", "has 2.36-9+deb12u1 instead"),
        ([record("2.36-10"), record("2.36-9")], "superseded", "2.36-10 is out"),
        ([record("2.36-9", "b" * 64)], "replaced", "sha256:bbbb"),
        ([record("2.36-9") | {"Architecture": "arm64"}], "unlisted", "instead"),
    ],
)
def test_a_locked_package_that_moved(
    records: list[dict[str, str]], kind: str | None, says: str
) -> None:
    found = list(package_findings([lock_of(LIBC), lock_of(LIBC, flavour="devel")], records))
    if kind is None:
        assert found == []
        return
    (finding,) = found
    assert (finding.kind, finding.subject) == (kind, "libc6 2.36-9")
    assert says in finding.detail
    assert finding.locks == ("bookworm-runtime", "bookworm-devel")


class _Handler(http.server.SimpleHTTPRequestHandler):
    answers: list[tuple[str, int]]

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        self.answers.append((self.path.rpartition("/")[2], int(code)))


@contextmanager
def serving(made: Archive) -> Iterator[tuple[Source, list[tuple[str, int]]]]:
    """The archive over HTTP, and what was answered: the last part of a path, and the status."""
    answers: list[tuple[str, int]] = []
    handler = type("Handler", (_Handler,), {"answers": answers})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(handler, directory=str(made.folder))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield replace(made.source, uri=f"http://127.0.0.1:{server.server_port}"), answers
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@needs_apt
def test_an_archive_that_moves_on(archive: Archive, tmp_path: Path) -> None:
    """And its lists are fetched again only when they have changed."""
    archive.publish()
    locked = lock_of(*resolve(archive, tmp_path, ("tool",)).values())
    context = Context(make_settings(tmp_path), QuietReporter(None))
    with serving(archive) as (source, answers):

        def check() -> dict[str, UpstreamChange]:
            answers.clear()
            return {f.subject: f for f in check_suite(context, [locked], [source])}

        assert check() == {}
        assert ("Packages", 200) in answers
        assert check() == {}
        assert answers == [("InRelease", 304)]

        archive.add("tool", "1:1.1", Depends="libtool1")
        dropped = archive.folder / "pool/main/libtool1_1.0_all.deb"
        kept = dropped.rename(tmp_path / "kept.deb")
        archive.add("libtool1", "1.2")
        archive.publish()
        later = time.time() + 2  # HTTP tells times apart by the second
        for path in archive.folder.rglob("*Release*"):
            os.utime(path, (later, later))
        found = check()
        assert {subject: finding.kind for subject, finding in found.items()} == {
            "tool 1:1.0+b1": "superseded", "libtool1 1.0": "gone",
        }  # fmt: skip
        said = "the archive has 1.2 instead; the pool "
        assert found["libtool1 1.0"].detail == f"{said}has dropped the file"
        assert found["tool 1:1.0+b1"].detail == "1:1.1 is out"
        dropped.write_bytes(kept.read_bytes())
        found = check()
        assert found["libtool1 1.0"].kind == "unlisted"
        assert found["libtool1 1.0"].detail == f"{said}still has the file"
        assert [path for path, _ in answers if path.endswith(".deb")] == [dropped.name]


@needs_apt
def test_an_archive_that_cannot_be_asked_is_no_finding(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wheelyard.lock.apt._RETRIES", "1")  # a second's wait, not seven
    archive.publish()
    context = Context(make_settings(tmp_path), QuietReporter(None))
    with serving(archive) as (source, _):
        assert check_suite(context, [lock_of()], [source]) == []
    with pytest.raises(FetchError, match="--debian-mirror"):
        check_suite(context, [lock_of(LIBC)], [source])
