"""Every failure a user can act on, one class and one exit code each.

Messages say what happened, where, and what to do. `wheelyard.cli.main` is the one place that
catches them; anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from wheelyard.layers import errors as parser


class WheelyardError(Exception):
    """Root of all expected failures."""

    exit_code = 1


class UsageError(WheelyardError):
    """A command line that cannot be carried out as written."""

    exit_code = 2


class MatrixError(WheelyardError):
    """matrix.yaml is not valid; the message lists every problem with its path and line."""

    exit_code = 3


class SelectionError(WheelyardError):
    """A selector names no image."""

    exit_code = 4


class LockError(WheelyardError):
    """A lock is missing, edited by hand, stale, or cannot be resolved."""

    exit_code = 5


class DriftError(WheelyardError):
    """Committed output differs from what the matrix and the locks would render."""

    exit_code = 6


class FetchError(WheelyardError):
    """A file could not be fetched, or is not the file the lock names."""

    exit_code = 7


class WheelError(WheelyardError):
    """A wheel is damaged, hostile, or in conflict with another one."""

    exit_code = 8


class BaseImageError(WheelyardError):
    """The base's root file system could not be made."""

    exit_code = 9


class StorageError(WheelyardError):
    """A cache or output folder is full, read-only, or holds damaged data."""

    exit_code = 10


class InspectError(WheelyardError):
    """A built image is not what its cell says."""

    exit_code = 11


class EngineError(WheelyardError):
    """A container engine refused or failed."""

    exit_code = 12


class ToolMissingError(WheelyardError):
    """A system tool that the command needs is not installed."""

    exit_code = 13


class SettingsError(WheelyardError):
    """A setting (option, environment or config file) is not valid."""

    exit_code = 14


class UpstreamError(WheelyardError):
    """Upstream moved: files are yanked or gone, releases are new, or a lock is old."""

    exit_code = 15


class RegistryError(WheelyardError):
    """A container registry refused, failed, or does not hold what it should."""

    exit_code = 16


class MachineError(WheelyardError):
    """The machine cannot run what was asked for, or lacks something it needs."""

    exit_code = 17


class VerifyError(WheelyardError):
    """A check that an image carries failed, or could not be run."""

    exit_code = 18


class SignatureError(WheelyardError):
    """An image is not signed, or not by the key that was named."""

    exit_code = 19


class ProjectError(WheelyardError):
    """The table or the requirements of a user's own project are not valid."""

    exit_code = 20


class UnexpectedError(WheelyardError):
    """A bug in wheelyard.

    Never raised: it is recorded as the failure of one image of a batch, with the bug as its cause.
    """

    exit_code = 70  # EX_SOFTWARE of sysexits.h


INTERRUPTED = 130


def unreadable(error: Callable[[str], WheelyardError]) -> AbstractContextManager[None]:
    """Turn what a library's parser raises on untrusted bytes into `error(why)`."""
    return parser.unreadable(error, passing=(WheelyardError,))


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """Return the end of a message: the known word most like `word`; else all, after `otherwise`."""
    import difflib  # most commands need none

    words = list(known)
    near = difflib.get_close_matches(word, words, 1)
    return f"did you mean {near[0]}?" if near else f"{otherwise}: {', '.join(words)}"
