"""Names and logs that others made up are shown on a terminal, never obeyed by it.

`plain_streams` puts itself between the program and its standard streams, so that no message,
table or traceback has to think of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

from wheelyard.console.plain import plain
from wheelyard.errors import StorageError

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


class ReaderGoneError(BrokenPipeError):
    """Whoever read the standard output has closed it."""


@contextmanager
def plain_streams() -> Iterator[None]:
    """Standard streams that are there, take every text, and send no control character.

    One that the process was started without goes nowhere, and so does what stderr refuses: losing
    a message ends no work. What stdout refuses is an error, because it is the result.
    """
    _reopen()
    with redirect_stdout(_plain(sys.stdout, _Result)), redirect_stderr(_plain(sys.stderr, _Plain)):
        yield


def terminal(stream: TextIO) -> TextIO:
    """The terminal behind a plain stream, for those who steer it themselves."""
    return cast("TextIO", _Terminal(stream.below if isinstance(stream, _Plain) else stream))


class _Plain:
    """A text stream that shows control characters; what cannot be written is dropped."""

    def __init__(self, below: TextIO) -> None:
        self.below = below

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self.below.write(plain(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self.below.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.below, name)


class _Terminal(_Plain):
    """A stream that takes control characters."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self.below.write(text)
        return len(text)


class _Result(_Plain):
    """A stream whose loss is told."""

    def write(self, text: str) -> int:
        with _told():
            return self.below.write(plain(text))

    def flush(self) -> None:
        with _told():
            self.below.flush()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as gone:
        raise ReaderGoneError(*gone.args) from gone
    except OSError as refused:
        raise StorageError(
            f"the output cannot be written: {refused.strerror}; "
            "make room where it goes, or send it elsewhere"
        ) from refused


def _plain(stream: TextIO, kind: type[_Plain]) -> TextIO:
    if isinstance(stream, _Plain):
        return cast("TextIO", stream)
    with suppress(AttributeError, ValueError, OSError):  # a name that the locale cannot write
        stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]
    return cast("TextIO", kind(stream))


def _reopen() -> None:
    """Open what is closed to nowhere, or the next file would get its number and be written to."""
    for number, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
