"""Reading gzip files of many members at the speed of ISA-L."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from isal import igzip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO


@contextmanager
def open_gzip(path: Path) -> Iterator[BinaryIO]:
    """Open a gzip file and yield its content as a stream."""
    opened: Any = igzip.IGzipFile(path, "rb")  # type: ignore[no-untyped-call]
    with opened as stream:
        yield stream
