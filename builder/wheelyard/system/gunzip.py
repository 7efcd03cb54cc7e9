"""Reading gzip files of many members at the speed of ISA-L."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from isal import igzip


@contextmanager
def open_gzip(path: Path) -> Iterator[BinaryIO]:
    """Open a gzip file and yield its content as a stream."""
    opened: Any = igzip.IGzipFile(path, "rb")  # type: ignore[no-untyped-call]
    with opened as stream:
        yield stream
