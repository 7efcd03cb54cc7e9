"""The least that layers of wheels can cost: read, inflate, hash twice, write. Nothing else.

    python -m tests.benchmark.floor FOLDER WHEEL...

One process a core, the heaviest wheel first. Every member's packed bytes are hashed and written to
a file in FOLDER, its inflated bytes hashed; nothing is checked, nothing flushed to the disk. Prints
one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import multiprocessing
import os
import struct
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from isal import igzip_lib

PIECE = 1 << 18  # bytes of input and
OUTPUT = 1 << 20  # bytes of output: what was just inflated is still in the core's cache
_LENGTHS = struct.Struct("<HH")  # of name and extra field, at 26 of a local header's 30 bytes


def main(arguments: Sequence[str]) -> None:
    """Copy, inflate and hash the wheels."""
    folder, *wheels = map(Path, arguments)
    start = time.perf_counter()
    sizes = run(wheels, folder)
    report = {
        "seconds": time.perf_counter() - start,
        "packed_bytes": sum(wheel.stat().st_size for wheel in wheels),
        "inflated_bytes": sum(sizes),
    }
    print(json.dumps(report))


def run(wheels: Sequence[Path], folder: Path) -> list[int]:
    """Bytes inflated of each wheel; on as many processes as this program may use cores."""
    ordered = sorted(wheels, key=lambda wheel: wheel.stat().st_size, reverse=True)
    cores = len(os.sched_getaffinity(0))
    total = sum(wheel.stat().st_size for wheel in wheels)
    # One wheel that outlasts all others together shall not decide the time by itself.
    threaded = ordered[0].stat().st_size > total / cores
    work = partial(transcode, folder=folder, threaded=threaded)
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        return pool.map(work, ordered, chunksize=1)


def transcode(wheel: Path, folder: Path, threaded: bool) -> int:
    """Bytes inflated of one wheel."""
    packed, inflated = hashlib.sha256(), hashlib.sha256()
    size = 0
    with (
        ThreadPoolExecutor(1) as thread,
        wheel.open("rb") as file,
        (folder / wheel.name).open("wb", PIECE) as out,
    ):
        later: Callable[[bytes | memoryview], object] = inflated.update
        if threaded:
            later = partial(_submit, thread, inflated.update)
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        for info in zipfile.ZipFile(file).infolist():
            for piece, contents in _pieces(_content(data, info), info):
                packed.update(piece)
                out.write(piece)
                for content in contents:
                    later(content)
                    size += len(content)
    return size


def _submit(
    thread: ThreadPoolExecutor,
    update: Callable[[bytes | memoryview], object],
    data: bytes | memoryview,
) -> None:
    thread.submit(update, data)


def _content(data: memoryview, info: zipfile.ZipInfo) -> memoryview:
    at = info.header_offset + 30
    at += sum(_LENGTHS.unpack_from(data, at - 4))
    return data[at : at + info.compress_size]


def _pieces(
    packed: memoryview, info: zipfile.ZipInfo
) -> Iterator[tuple[memoryview, Iterable[bytes | memoryview]]]:
    """Packed bytes, and the content that they complete."""
    if info.compress_type == zipfile.ZIP_STORED:
        yield packed, [packed]
    elif info.file_size <= OUTPUT:
        size = info.file_size + 1
        yield packed, [igzip_lib.decompress(packed, igzip_lib.DECOMP_DEFLATE, bufsize=size)]
    else:
        stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
        for at in range(0, len(packed), PIECE):
            piece = packed[at : at + PIECE]
            yield piece, _inflated(stream, piece)


def _inflated(stream: igzip_lib.IgzipDecompressor, piece: memoryview) -> Iterator[bytes]:
    yield stream.decompress(piece, OUTPUT)
    while not stream.needs_input and not stream.eof:
        yield stream.decompress(b"", OUTPUT)


if __name__ == "__main__":
    main(sys.argv[1:])
