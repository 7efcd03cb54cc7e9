"""The errors of this library, and turning a parser's exceptions into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class LayersError(Exception):
    """Root of the errors that the library raises on purpose."""


class WheelError(LayersError):
    """A wheel is damaged, hostile, or in conflict with another one."""


class EntryError(LayersError):
    """An entry must not be in a layer, or is too large to be read whole."""


class BlobError(LayersError):
    """A blob does not match its table of contents."""

    def __init__(self, blob: Path, why: str) -> None:
        super().__init__(f"{blob}: {why}")
        self.blob, self.why = blob, why


@contextmanager
def unreadable(
    error: Callable[[str], Exception], *, passing: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn what a parser raises on untrusted bytes into `error(why)`.

    Hardly any parser documents which exceptions these can be (tarfile raises a dozen types). The
    library's own pass through, `passing` too, and so do the operating system's.
    """
    try:
        yield
    except Exception as cause:
        is_system = isinstance(cause, OSError) and cause.errno is not None  # gzip's have none
        if is_system or isinstance(cause, (LayersError, *passing)):
            raise
        raise error(str(cause) or type(cause).__name__) from cause
