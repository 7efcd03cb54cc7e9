"""What ends a thread reaches whoever waits for it, a MemoryError as well; nobody waits for ever."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
from tiny import Tiny, make_tiny

from tests.engines.tiny import layers_of, make_image, make_layer
from wheelyard.dockerfiles.prefetched import PrefetchedFiles, WantedFile
from wheelyard.engines.ahead import Ahead, ClassicStore
from wheelyard.errors import FetchError
from wheelyard.fetching.wanted import Download
from wheelyard.images.assemble.streamed import StreamedInputs
from wheelyard.layers.hashing import BlobSink
from wheelyard.system.threads import Helper, Stopped, each

PATIENCE = 20.0  # seconds until a test counts as blocked


def in_time(work: Callable[[], object]) -> object:
    """What `work` returns or raises; fails where it waits for ever."""
    found: list[object] = []
    helper = Helper(lambda: found.append(work()), "test")
    helper.start()
    helper.join(PATIENCE)
    assert not helper.is_alive(), "still waiting"
    helper.require()
    return found[0]


class Full(io.BytesIO):
    """A file that takes nothing."""

    def write(self, _data: object) -> int:
        raise MemoryError("none left")


def test_a_writer_is_not_blocked_by_hashing_that_ended() -> None:
    def write() -> None:
        with BlobSink(Full(), threaded=True) as sink:
            for _ in range(100):  # more than the queue takes
                sink.blob(bytes(1 << 18))
            sink.digests()

    with pytest.raises(MemoryError, match="none left"):
        in_time(write)


def test_hashing_that_ends_with_the_last_piece_is_no_success() -> None:
    with BlobSink(Full(), threaded=True) as sink:
        sink.blob(b"the only one")
        with pytest.raises(MemoryError):
            sink.digests()


@pytest.mark.parametrize("error", [MemoryError, SystemExit, ZeroDivisionError])
def test_one_of_several_ends_the_others(error: type[BaseException]) -> None:
    stop = threading.Event()

    def work(item: int) -> None:
        if item == 1:
            raise error
        assert stop.wait(PATIENCE)
        raise Stopped

    with pytest.raises(error):
        each(work, range(3), 3, "test", stop)


def test_values_come_in_the_order_of_the_items() -> None:
    last = threading.Event()

    def work(item: int) -> int:
        if item == 4:
            last.set()
        assert item or last.wait(PATIENCE)  # the first ends last
        return item * item

    assert each(work, range(5), 2, "test") == [0, 1, 4, 9, 16]
    assert each(work, [], 2, "test") == []


def test_what_was_stopped_from_outside_returns_no_values() -> None:
    stop, done = threading.Event(), []

    def work(item: int) -> None:
        done.append(item)
        stop.set()

    with pytest.raises(Stopped):
        each(work, range(3), 1, "test", stop)
    assert done == [0]


def test_a_fetch_that_ends_is_no_success() -> None:
    def fetch(_arrived: object, _stop: object) -> None:
        raise MemoryError

    with StreamedInputs({}, fetch) as streamed:
        while not streamed.is_over():
            pass
        with pytest.raises(MemoryError):
            streamed.require()


@pytest.mark.parametrize("fails_at", [0, 1])
def test_layers_that_were_not_sent_are_no_success(tmp_path: Path, fails_at: int) -> None:
    made = [make_layer(tmp_path, f"file-{x}", bytes([x]) * 100_000) for x in range(4)]
    layers = layers_of(tmp_path, make_image(tmp_path, (), *made))
    sent: list[int] = []

    def send(chunks: Iterator[bytes]) -> None:
        sent.append(len(sent))
        if len(sent) > fails_at:
            raise MemoryError("none left")
        b"".join(chunks)

    with Ahead(ClassicStore(tmp_path, [], True), send, least=150_000) as sender:
        for layer in layers:
            sender.offer(layer)
        with pytest.raises(MemoryError, match="none left"):
            in_time(sender.finish)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


WANTED = WantedFile("demo-1.0-py3-none-any.whl", "ab" * 32, 10)


@pytest.mark.parametrize("read", ["path", "read"])
def test_who_waits_for_a_file_hears_of_any_exception(tiny: Tiny, read: str) -> None:
    def locate(_missing: Collection[str], _refuse: object) -> list[Download]:
        raise MemoryError("none left")

    files = PrefetchedFiles([WANTED], locate, tiny.context)
    files.start()
    with pytest.raises(MemoryError, match="none left"):
        in_time(lambda: getattr(files, read)(WANTED.sha256))
    assert isinstance(files.failure, MemoryError)
    files.close()


def test_who_waits_for_a_file_hears_of_a_download_that_fails_somehow(tiny: Tiny) -> None:
    def locate(_missing: Collection[str], _refuse: object) -> list[Download]:
        return [Download("nonsense://x", WANTED.filename, WANTED.sha256, WANTED.size)]

    files = PrefetchedFiles([WANTED], locate, tiny.context)
    files.start()
    with pytest.raises(Exception, match=r"nonsense|URL|protocol"):
        in_time(lambda: files.path(WANTED.sha256))
    files.close()


def test_nobody_waits_for_a_file_after_the_end(tiny: Tiny) -> None:
    begun = threading.Event()

    def locate(_missing: Collection[str], _refuse: object) -> list[Download]:
        begun.set()
        threading.Event().wait(PATIENCE / 4)  # a silent server
        return []

    files = PrefetchedFiles([WANTED], locate, tiny.context)
    files.start()
    assert begun.wait(PATIENCE)
    files.close()
    for read in (files.path, files.read):
        with pytest.raises(FetchError, match="the build ended"):
            in_time(lambda read=read: read(WANTED.sha256))  # type: ignore[misc]
    assert files.failure is None
