"""What ends one image of a batch, told so that the others go on."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from wheelyard.errors import UnexpectedError, WheelyardError
from wheelyard.system.storage import is_known, storage_error

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.console.tasks import Reporter


def reported(
    error: Exception, image: str, reporter: Reporter, log: Path | None = None
) -> WheelyardError:
    """Warn of what ended `image`; the error that its result keeps.

    A bug is told as one, with its traceback, which goes to the end of `log` as well.
    """
    failure = _failure(error)
    if isinstance(failure, UnexpectedError):
        lines = "".join(traceback.format_exception(error))
        reporter.warn(f"{image}: a bug ended this image\n{lines.rstrip()}")
        if log is not None and log.parent.is_dir():
            with log.open("a", encoding="utf-8") as file:
                file.write(f"\n{lines}")
    reporter.warn(f"{image}: {failure}")
    return failure


def _failure(error: Exception) -> WheelyardError:
    if isinstance(error, WheelyardError):
        return error
    if isinstance(error, OSError) and is_known(error):
        failure: WheelyardError = storage_error(error)
    else:
        failure = UnexpectedError(
            f"{type(error).__name__}: {str(error)[:500]}; this is a bug in wheelyard, please "
            "report it with the lines above"
        )
    failure.__cause__ = error
    return failure
