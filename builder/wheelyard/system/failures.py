"""Reports the failure of one image of a batch, so that the others continue."""

from __future__ import annotations

import traceback
from pathlib import Path

from wheelyard.console.tasks import Reporter
from wheelyard.errors import UnexpectedError, WheelyardError
from wheelyard.system.storage import is_known, storage_error


def reported(
    error: Exception, image: str, reporter: Reporter, log: Path | None = None
) -> WheelyardError:
    """Warn about the error that ended `image`, and return the error that its result keeps.

    A bug is reported as a bug, with its traceback, which is also appended to `log`.
    """
    failure = _failure(error)
    if isinstance(failure, UnexpectedError):
        lines = "".join(traceback.format_exception(error))
        reporter.warn(f"{image}: a bug stopped this image\n{lines.rstrip()}")
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
