"""Safe output: names and logs from other sources are shown on a terminal, never obeyed by it.

`plain_streams` wraps the program's standard streams, so that no message, table or traceback has to
escape anything itself.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

from wheelyard.console.plain import fitted, plain
from wheelyard.errors import StorageError

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


class ReaderGoneError(BrokenPipeError):
    """The program that read our standard output has closed it."""


@contextmanager
def plain_streams() -> Iterator[None]:
    """Replace stdout and stderr by streams that take any text and send no control character.

    A stream that the process was started without leads nowhere. What stderr refuses is dropped: a
    lost message must not end the work. What stdout refuses is an error, because it is the result.
    """
    _reopen()
    with redirect_stdout(_plain(sys.stdout, _Result)), redirect_stderr(_plain(sys.stderr, _Plain)):
        yield


def terminal(stream: TextIO) -> TextIO:
    """Return the terminal behind a plain stream, for code that controls it directly."""
    return cast("TextIO", _Terminal(stream.below if isinstance(stream, _Plain) else stream))


def fitting(text: str, stream: TextIO) -> str:
    """Return `text` wrapped at the width of a terminal; unchanged for a file or pipe."""
    return fitted(text, columns(stream)) if stream.isatty() else text


def columns(stream: TextIO) -> int:
    """Return the width of a terminal; COLUMNS takes precedence."""
    if not os.environ.get("COLUMNS"):
        with suppress(OSError, ValueError):
            if width := os.get_terminal_size(stream.fileno()).columns:
                return width
    return shutil.get_terminal_size().columns


class _Plain:
    """A text stream that escapes control characters and drops what cannot be written."""

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
    """A stream that passes control characters on."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self.below.write(text)
        return len(text)


class _Result(_Plain):
    """A stream that raises an error when its output is lost."""

    def write(self, text: str) -> int:
        with _reporting_errors():
            return self.below.write(plain(text))

    def flush(self) -> None:
        with _reporting_errors():
            self.below.flush()


@contextmanager
def _reporting_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as gone:
        raise ReaderGoneError(*gone.args) from gone
    except OSError as refused:
        raise StorageError(
            f"cannot write the output: {refused.strerror}; "
            "free some space at its destination, or redirect it"
        ) from refused


def _plain(stream: TextIO, kind: type[_Plain]) -> TextIO:
    if isinstance(stream, _Plain):
        return cast("TextIO", stream)
    with suppress(AttributeError, ValueError, OSError):  # a name that the locale cannot write
        stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]
    return cast("TextIO", kind(stream))


def _reopen() -> None:
    """Open closed standard streams on /dev/null, so that no other file gets their numbers."""
    for number, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
