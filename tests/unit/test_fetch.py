"""Downloads against real servers that misbehave, real processes that die, real full disks."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import signal
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
from loopback import Fault, Server, serve

from wheelyard.console.amounts import Unit
from wheelyard.console.progress import PlainReporter, QuietReporter
from wheelyard.console.tasks import Task
from wheelyard.errors import FetchError, StorageError
from wheelyard.fetching.fetch import Download, Patience, cached, fetch_all
from wheelyard.fetching.wanted import NotFetched
from wheelyard.settings import Settings
from wheelyard.system.filelock import locked

WHEEL = hashlib.shake_128(b"wheel").digest(3_000_001)
SMALL = b"a small file"
QUICK = Patience(attempts=3, first_wait=0.01, longest_wait=0.02)


def settings(tmp_path: Path, ca_bundle: Path | None = None, timeout: float = 10) -> Settings:
    return Settings(tmp_path, tmp_path, None, None, None, ca_bundle, 1, timeout)


def want(
    server: Server, name: str = "wheel.whl", data: bytes = WHEEL, size: int | None = -1
) -> Download:
    digest = hashlib.sha256(data).hexdigest()
    return Download(f"{server.url}/{name}", name, digest, len(data) if size == -1 else size)


def fetch(items: list[Download], folder: Path, **options: object) -> tuple[dict[str, Path], str]:
    """Fetch quickly; returns the paths and the log."""
    log = io.StringIO()
    chosen = settings(folder, **options)  # type: ignore[arg-type]
    paths = fetch_all(items, folder / "files", chosen, PlainReporter(log), patience=QUICK)
    return paths, log.getvalue()


def failure(items: list[Download], folder: Path, **options: object) -> str:
    with pytest.raises(FetchError) as caught:
        fetch(items, folder, **options)
    return str(caught.value)


def part(folder: Path, item: Download) -> Path:
    return folder / "files" / item.sha256[:2] / item.sha256 / f"{item.filename}.part"


def start_part(folder: Path, item: Download, data: bytes) -> Path:
    path = part(folder, item)
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(Server({"/wheel.whl": WHEEL, "/small.whl": SMALL, "/empty": b""})) as running:
        yield running


def test_files_arrive_in_parallel_and_verified(server: Server, tmp_path: Path) -> None:
    items = [want(server), want(server, "small.whl", SMALL), want(server, "empty", b"")]
    paths, _ = fetch(items, tmp_path)
    assert [paths[item.sha256].read_bytes() for item in items] == [WHEEL, SMALL, b""]
    path = paths[items[0].sha256]
    assert path == tmp_path / "files" / items[0].sha256[:2] / items[0].sha256 / "wheel.whl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert [entry.name for entry in path.parent.iterdir()] == ["wheel.whl"]


def test_what_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    fetch([want(server)], tmp_path)
    server.requests.clear()
    item = want(server)
    paths, _ = fetch([item, item], tmp_path)
    assert paths == {item.sha256: cached(tmp_path / "files", item.sha256, "wheel.whl")}
    assert server.requests == []
    assert cached(tmp_path / "files", item.sha256, "wheel.whl", 5) is None
    assert cached(tmp_path / "files", item.sha256, "other.whl") is None


def test_unknown_size_and_no_content_length(server: Server, tmp_path: Path) -> None:
    server.sized = False
    paths, _ = fetch([want(server, size=None)], tmp_path)
    assert [path.read_bytes() for path in paths.values()] == [WHEEL]


@pytest.mark.parametrize("fault", ["drop", "truncate"])
def test_connection_lost_half_way_is_resumed(server: Server, tmp_path: Path, fault: Fault) -> None:
    server.faults = [fault, fault]
    paths, log = fetch([want(server)], tmp_path)
    assert [path.read_bytes() for path in paths.values()] == [WHEEL]
    assert [asked for _, asked in server.requests] == [None, "bytes=1500000-", "bytes=2250000-"]
    assert "trying again in" in log


def test_progress_resets_the_count_of_attempts(server: Server, tmp_path: Path) -> None:
    server.faults = ["500", "500", "drop", "500", "drop", "500", "500"]
    paths, _ = fetch([want(server)], tmp_path)
    assert [path.read_bytes() for path in paths.values()] == [WHEEL]


def test_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges, server.faults = False, ["drop"]
    paths, _ = fetch([want(server)], tmp_path)
    assert [path.read_bytes() for path in paths.values()] == [WHEEL]
    assert len(server.requests) == 2


def test_server_without_ranges_that_always_drops_is_given_up(
    server: Server, tmp_path: Path
) -> None:
    server.ranges, server.always = False, "drop"
    assert "gave up after 3 attempts" in failure([want(server)], tmp_path)
    assert len(server.requests) == 4  # one that gained bytes, three that did not


@pytest.mark.parametrize("fault", ["416", "wrong-range"])
def test_refused_or_wrong_range_starts_over(server: Server, tmp_path: Path, fault: Fault) -> None:
    item = want(server)
    start_part(tmp_path, item, WHEEL[:1000])
    server.faults = [fault]
    paths, _ = fetch([item], tmp_path)
    assert [path.read_bytes() for path in paths.values()] == [WHEEL]
    assert [asked for _, asked in server.requests] == ["bytes=1000-", None]


def test_part_of_an_earlier_run_is_continued(server: Server, tmp_path: Path) -> None:
    item = want(server)
    start_part(tmp_path, item, WHEEL[:2_500_000])
    fetch([item], tmp_path)
    assert [asked for _, asked in server.requests] == ["bytes=2500000-"]


def test_complete_part_needs_no_request(server: Server, tmp_path: Path) -> None:
    item = want(server, size=None)
    start_part(tmp_path, item, WHEEL)
    paths, _ = fetch([item], tmp_path)
    assert [path.read_bytes() for path in paths.values()] == [WHEEL]
    assert server.requests == []


@pytest.mark.parametrize("rubbish", [b"x" * 1000, b"x" * len(WHEEL), b"x" * (len(WHEEL) + 1)])
def test_damaged_part_is_replaced(server: Server, tmp_path: Path, rubbish: bytes) -> None:
    item = want(server)
    start_part(tmp_path, item, rubbish)
    paths, _ = fetch([item], tmp_path)
    assert [path.read_bytes() for path in paths.values()] == [WHEEL]


def test_retry_after_is_honoured(server: Server, tmp_path: Path) -> None:
    server.faults, server.retry_after = ["429"], "1"
    started = time.monotonic()
    _, log = fetch([want(server)], tmp_path)
    assert time.monotonic() - started >= 1
    assert "HTTP 429 Too Many Requests; trying again in 1.0 s" in log


@pytest.mark.parametrize(
    "value", ["3600", formatdate(time.time() + 3600, usegmt=True)], ids=["seconds", "date"]
)
def test_retry_after_beyond_reason_ends_the_wait(
    server: Server, tmp_path: Path, value: str
) -> None:
    server.faults, server.retry_after = ["429"], value
    assert "asks for a pause of 3" in failure([want(server)], tmp_path)


def test_server_error_then_success(server: Server, tmp_path: Path) -> None:
    server.faults = ["500", "500"]
    fetch([want(server)], tmp_path)
    assert len(server.requests) == 3


@pytest.mark.parametrize(("fault", "advice"), [("404", "wheelyard lock"), ("403", "credentials")])
def test_final_answers_are_not_retried(
    server: Server, tmp_path: Path, fault: Fault, advice: str
) -> None:
    server.always = fault
    message = failure([want(server)], tmp_path)
    assert message.startswith(
        f"could not fetch wheel.whl from {server.url}/wheel.whl: HTTP {fault}"
    )
    assert advice in message
    assert len(server.requests) == 1


def test_one_failure_does_not_stop_the_others(server: Server, tmp_path: Path) -> None:
    good = want(server)
    server.files |= {"/b.whl": b"not what b should be", "/c.whl": b"not what c should be"}
    bad = [want(server, name, name.encode(), None) for name in ("b.whl", "c.whl")]
    message = failure([bad[0], good, bad[1]], tmp_path)
    assert message.startswith("could not fetch 2 of 3 files:\n  b.whl from ")
    assert "\n  c.whl from " in message
    assert cached(tmp_path / "files", good.sha256, "wheel.whl")


def test_wrong_bytes_once_are_fetched_again(server: Server, tmp_path: Path) -> None:
    server.faults, server.other = ["other"], bytes(len(WHEEL))
    paths, log = fetch([want(server)], tmp_path)
    assert [path.read_bytes() for path in paths.values()] == [WHEEL]
    assert "once more from the start" in log


@pytest.mark.parametrize("size", [len(WHEEL), None])
def test_wrong_bytes_twice_name_both_hashes(
    server: Server, tmp_path: Path, size: int | None
) -> None:
    server.always, server.other = "other", bytes(len(WHEEL))
    item = want(server, size=size)
    message = failure([item], tmp_path)
    assert (
        f"SHA-256 is {hashlib.sha256(server.other).hexdigest()}, expected {item.sha256}" in message
    )
    assert len(server.requests) == 2
    assert not part(tmp_path, item).exists()
    assert cached(tmp_path / "files", item.sha256, "wheel.whl") is None


def test_wrong_size_is_seen_before_the_body(server: Server, tmp_path: Path) -> None:
    server.always, server.other = "other", b"<html>please log in</html>"
    item = want(server)
    path = start_part(tmp_path, item, WHEEL[:1000])
    server.ranges = False
    assert "the server's file has 26 bytes, expected 3,000,001" in failure([item], tmp_path)
    assert len(server.requests) == 1
    assert path.read_bytes() == WHEEL[:1000]  # a login page must not cost what is here


def test_endless_body_is_cut(server: Server, tmp_path: Path) -> None:
    server.always, server.other, server.sized = "other", bytes(len(WHEEL) * 3), False
    assert "more than the expected 3,000,001 bytes" in failure([want(server)], tmp_path)


def test_file_that_changed_between_two_attempts(server: Server, tmp_path: Path) -> None:
    item = want(server, size=None)
    start_part(tmp_path, item, b"an older build of the file")
    paths, _ = fetch([item], tmp_path)
    assert [path.read_bytes() for path in paths.values()] == [WHEEL]


def test_silent_server_names_the_setting(server: Server, tmp_path: Path) -> None:
    server.always = "stall"
    item = want(server, "small.whl", SMALL)
    message = failure([item], tmp_path, timeout=0.2)
    assert "WHEELYARD_TIMEOUT" in message
    assert "gave up" in message
    assert part(tmp_path, item).read_bytes() == SMALL[:11]  # half of the rest each time


def test_no_server(tmp_path: Path) -> None:
    with serve(Server({})) as gone:
        pass
    message = failure([want(gone)], tmp_path)
    assert "Connection refused; gave up after 3 attempts" in message
    assert "--index-url" in message


def many(server: Server, count: int) -> list[Download]:
    digests = (hashlib.sha256(b"%d" % n).hexdigest() for n in range(count))
    return [Download(f"{server.url}/{d}", f"{d[:8]}.deb", d, 10) for d in digests]


def test_no_server_is_found_out_once_and_not_for_each_file(tmp_path: Path) -> None:
    with serve(Server({})) as gone:
        pass
    log = io.StringIO()
    with pytest.raises(FetchError, match="no data arrived for the other 99 files either"):
        fetch_all(many(gone, 100), tmp_path, settings(tmp_path), PlainReporter(log), patience=QUICK)
    assert log.getvalue().count("trying again") == 2  # attempts less one, whatever the connections


def test_a_server_that_is_down_beside_another_is_found_out_once(
    server: Server, tmp_path: Path
) -> None:
    with serve(Server({})) as gone:
        pass
    log = io.StringIO()
    items = [want(server), *many(gone, 100)]
    with pytest.raises(NotFetched, match=f"no data arrived from {urlsplit(gone.url).netloc}; "):
        fetch_all(items, tmp_path, settings(tmp_path), PlainReporter(log), patience=QUICK)
    assert log.getvalue().count("trying again") == 2
    assert cached(tmp_path, items[0].sha256, items[0].filename, items[0].size)


def test_one_file_that_never_comes_does_not_stop_the_others(server: Server, tmp_path: Path) -> None:
    with serve(Server({})) as gone:
        pass
    present = want(server)
    lost = Download(f"{gone.url}/x", "x", "0" * 64, 10_000_000)
    slow = Patience(attempts=3, first_wait=0.3)
    with pytest.raises(FetchError, match="could not fetch x"):
        fetch_all([lost, present], tmp_path, settings(tmp_path), QuietReporter(None), patience=slow)
    assert cached(tmp_path, present.sha256, present.filename)


def test_a_long_list_of_failures_is_cut(server: Server, tmp_path: Path) -> None:
    server.always = "404"
    message = failure(many(server, 30), tmp_path)
    assert "could not fetch 30 of 30 files" in message
    assert "and 20 more" in message
    assert message.count("HTTP 404") == 10


def test_a_file_says_itself_what_to_do_when_it_is_gone(server: Server, tmp_path: Path) -> None:
    server.always = "404"
    item = Download(f"{server.url}/x.deb", "x.deb", "0" * 64, None, "take its successor")
    assert "or take its successor" in failure([item], tmp_path)


def test_what_is_gone_is_asked_for_elsewhere(server: Server, tmp_path: Path) -> None:
    present = want(server)
    places = (f"{server.url}/nowhere", present.url, f"{server.url}/never-asked")
    server.faults = ["404", "404"]
    item = replace(present, url=f"{server.url}/first", fallbacks=places)
    found = fetch_all([item], tmp_path, settings(tmp_path), QuietReporter(None), patience=QUICK)
    assert found[item.sha256].read_bytes() == WHEEL
    asked = [path for path, _ in server.requests]
    assert asked == ["/first", "/nowhere", urlsplit(present.url).path]


def test_a_refusal_is_no_reason_to_ask_elsewhere(server: Server, tmp_path: Path) -> None:
    """A login that is wrong is to be seen, not to be worked around."""
    server.always = "403"
    item = replace(want(server), fallbacks=(f"{server.url}/other",))
    with pytest.raises(NotFetched) as caught:
        fetch_all([item], tmp_path, settings(tmp_path), QuietReporter(None), patience=QUICK)
    assert caught.value.failed == {item.sha256}
    assert not caught.value.gone
    assert len(server.requests) == 1


def test_what_is_gone_is_told_from_what_failed(server: Server, tmp_path: Path) -> None:
    lost, refused = many(server, 2)
    missing = replace(lost, url=f"file://{tmp_path}/nothing.deb", fallbacks=())
    server.always = "403"
    with pytest.raises(NotFetched) as caught:
        fetch_all(
            [missing, refused], tmp_path, settings(tmp_path), QuietReporter(None), patience=QUICK
        )
    assert caught.value.gone == {missing.sha256}
    assert caught.value.failed == {missing.sha256, refused.sha256}


def test_credentials_are_sent_but_not_shown(server: Server, tmp_path: Path) -> None:
    server.always = "403"
    with_password = server.url.replace("://", "://user:s3cret@")
    item = Download(f"{with_password}/wheel.whl?token=s3cret", "wheel.whl", "0" * 64, None)
    message = failure([item], tmp_path)
    assert "s3cret" not in message
    assert "://***@127.0.0.1" in message


def test_proxy_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(Server({})) as gone:
        pass
    monkeypatch.setenv("HTTP_PROXY", gone.url)
    item = Download("http://mirror.invalid/x", "x", "0" * 64, None)
    assert "gave up after 3 attempts" in failure([item], tmp_path)


def test_request_goes_through_the_proxy(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["http://mirror.invalid/small.whl"] = SMALL
    monkeypatch.setenv("HTTP_PROXY", server.url)
    digest = hashlib.sha256(SMALL).hexdigest()
    fetch([Download("http://mirror.invalid/small.whl", "small.whl", digest, None)], tmp_path)
    assert server.requests == [("http://mirror.invalid/small.whl", None)]


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "", "a\\b", "a\0b", "a\nb"])
def test_hostile_names_are_refused(server: Server, tmp_path: Path, name: str) -> None:
    message = failure([Download(server.url, name, "0" * 64, None)], tmp_path)
    assert "is not a plain file name" in message
    assert not (tmp_path / "files").exists()


def test_hostile_hash_and_url_are_refused(tmp_path: Path) -> None:
    message = failure(
        [Download("http://h/", "a", "../../etc", None), Download("ftp://h/", "b", "0" * 64, None)],
        tmp_path,
    )
    assert "a: '../../etc' is not a SHA-256" in message
    assert "b: 'ftp://h/' is not a URL that starts with" in message


def test_file_urls(tmp_path: Path) -> None:
    source = tmp_path / "a wheel.whl"
    source.write_bytes(WHEEL)
    item = Download(source.as_uri(), "wheel.whl", hashlib.sha256(WHEEL).hexdigest(), len(WHEEL))
    start_part(tmp_path, item, WHEEL[:10])
    paths, _ = fetch([item], tmp_path)
    assert [path.read_bytes() for path in paths.values()] == [WHEEL]


@pytest.mark.parametrize("path", ["/dev/zero", "/nowhere/a.whl", "/tmp"])
def test_file_urls_that_are_no_files(tmp_path: Path, path: str) -> None:
    message = failure([Download(f"file://{path}", "a.whl", "0" * 64, None)], tmp_path)
    assert path in message


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with serve(Server({"/wheel.whl": WHEEL}), context) as running:
        yield running


def test_extra_ca_is_trusted(secure: Server, authority: trustme.CA, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    paths, _ = fetch([want(secure)], tmp_path, ca_bundle=bundle)
    assert [path.read_bytes() for path in paths.values()] == [WHEEL]


def test_ssl_cert_file_is_trusted(
    secure: Server, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    fetch([want(secure)], tmp_path)


def test_unknown_ca_says_how_to_pass_one(secure: Server, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    message = failure([want(secure)], tmp_path, ca_bundle=other)
    assert "TLS certificate not trusted" in message
    assert "--ca-bundle FILE, WHEELYARD_CA_BUNDLE" in message
    assert "gave up" not in message


def test_disk_that_cannot_hold_the_files(server: Server, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no space left \(1,000,000,000,000,000 bytes needed, "):
        fetch([want(server, size=10**15)], tmp_path)
    assert server.requests == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small tmpfs: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_disk_that_fills_up_on_the_way(server: Server, small_disk: Path) -> None:
    good, big = want(server, "small.whl", SMALL), want(server, size=None)
    fetch([good], small_disk)
    with pytest.raises(StorageError, match=r"no space left \(0 bytes free\); make room") as caught:
        fetch([big], small_disk)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert cached(small_disk / "files", good.sha256, "small.whl")
    assert cached(small_disk / "files", big.sha256, "wheel.whl") is None
    assert part(small_disk, big).exists()


def test_read_only_disk(server: Server, small_disk: Path) -> None:
    present = want(server, "small.whl", SMALL)
    fetch([present], small_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    paths, _ = fetch([present], small_disk)  # a full cache needs no writing
    assert list(paths) == [present.sha256]
    with pytest.raises(StorageError, match=r"Read-only file system.*--cache-dir"):
        fetch([want(server, "empty", b"")], small_disk)


def test_folder_that_is_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "files").write_text("")
    with pytest.raises(StorageError, match="remove it: rm "):
        fetch([want(server)], tmp_path)


CHILD = """
import sys
from pathlib import Path
from wheelyard.fetching.fetch import Download, fetch_all
from wheelyard.console.progress import PlainReporter
from wheelyard.settings import Settings
folder, url, sha256 = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
settings = Settings(folder, folder, None, None, None, None, 1, 30.0)
item = Download(url, "wheel.whl", sha256, None)
paths = fetch_all([item], folder / "files", settings, PlainReporter(sys.stderr))
print(paths[sha256].stat().st_ino)
"""


@contextmanager
def child_that_fetches(folder: Path, item: Download) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", CHILD, str(folder), item.url, item.sha256]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True) as child:
        yield child
        child.kill()


def wait_for_bytes(path: Path, count: int = 1) -> int:
    for _ in range(1000):
        if path.exists() and path.stat().st_size >= count:
            return path.stat().st_size
        time.sleep(0.01)
    raise AssertionError(f"{path} did not grow")


def test_killed_process_leaves_a_part_that_is_continued(server: Server, tmp_path: Path) -> None:
    server.pace = 0.02
    item = want(server, size=None)
    with child_that_fetches(tmp_path, item) as child:
        wait_for_bytes(part(tmp_path, item))
        child.send_signal(signal.SIGKILL)
        child.wait()
    have = part(tmp_path, item).stat().st_size
    assert 0 < have < len(WHEEL)
    server.pace = 0
    server.requests.clear()
    paths, _ = fetch([item], tmp_path)
    assert server.requests == [("/wheel.whl", f"bytes={have}-")]
    assert [path.read_bytes() for path in paths.values()] == [WHEEL]


def test_ctrl_c_ends_promptly_and_keeps_the_part(server: Server, tmp_path: Path) -> None:
    server.always = "stall"  # the reading thread hears nothing for 30 s
    item = want(server, size=None)
    with child_that_fetches(tmp_path, item) as child:
        wait_for_bytes(part(tmp_path, item), len(WHEEL) // 2)
        started = time.monotonic()
        child.send_signal(signal.SIGINT)
        _, log = child.communicate(timeout=20)
    assert time.monotonic() - started < 5
    assert "KeyboardInterrupt" in log
    assert part(tmp_path, item).read_bytes() == WHEEL[: len(WHEEL) // 2]


def test_processes_that_wait_for_each_other_fetch_a_file_once(
    server: Server, tmp_path: Path
) -> None:
    item = want(server, size=None)
    holder = part(tmp_path, item).with_name("wheel.whl.lock")
    holder.parent.mkdir(parents=True)
    with child_that_fetches(tmp_path, item) as one, child_that_fetches(tmp_path, item) as two:
        with locked(holder):
            for child in (one, two):
                assert child.stderr is not None
                assert "waiting for another process" in child.stderr.readline()
        (out_one, _), (out_two, _) = one.communicate(), two.communicate()
    assert (one.returncode, two.returncode) == (0, 0)
    assert out_one == out_two
    assert len(server.requests) == 1


def test_interrupt_while_waiting_for_the_lock(server: Server, tmp_path: Path) -> None:
    item = want(server, size=None)
    holder = part(tmp_path, item).with_name("wheel.whl.lock")
    holder.parent.mkdir(parents=True)
    with locked(holder), child_that_fetches(tmp_path, item) as child:
        assert child.stderr is not None
        assert "waiting" in child.stderr.readline()
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=20) != 0
    assert server.requests == []


def test_lock_is_exclusive_and_leaves_no_file(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(10):
            with locked(tmp_path / "lock"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 40
    assert max(most) == 1
    assert list(tmp_path.iterdir()) == []


def test_umask_does_not_matter(server: Server, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        paths, _ = fetch([want(server)], tmp_path)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths.values()] == [0o444]


def test_bug_in_a_thread_reaches_the_caller(server: Server, tmp_path: Path) -> None:
    class Broken(QuietReporter):
        def task(self, label: str, total: int | None, unit: Unit) -> AbstractContextManager[Task]:
            raise ZeroDivisionError(label)

    with pytest.raises(ZeroDivisionError, match=r"wheel\.whl"):
        fetch_all([want(server)], tmp_path, settings(tmp_path), Broken(None))
