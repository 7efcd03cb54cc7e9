"""Run a module of selfcheck in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from .trouble import is_known

NAME = __package__  # "selfcheck" in an image, "wheelyard.selfcheck" outside
TIMEOUT, GRACE = 240, 10  # seconds
MOST = 400  # characters of a line
# `ValueError: ...`, also as torchrun marks it: `[rank1]: torch.cuda.OutOfMemoryError: ...`.
ERROR = re.compile(r"^(?:\[[\w: ]+\]:? *)?[\w.]*(?:Error|Exception|Interrupt)\b.*:")


# By these a launcher tells a process its place in a group. We start groups of our own, and they
# must not take themselves for a part of that one.
LAUNCHED = re.compile(
    r"(?:(?:LOCAL_|GROUP_|ROLE_)?(?:RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(?:ADDR|PORT)|TF_CONFIG|"
    r"(?:PET|TORCHELASTIC)_\w+)"
)
STARTED = "TORCHELASTIC_RUN_ID"  # torchrun's


class ChildError(RuntimeError):
    """The process failed; the message holds the end of what it said."""


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return our environment without a launcher's, with `selfcheck` importable, plus `extra`."""
    package = str(Path(__file__).parents[len(NAME.split("."))])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    own = {name: value for name, value in os.environ.items() if name not in launched()}
    return {**own, "PYTHONPATH": path, **extra}


def launched() -> dict[str, str]:
    """Return what a launcher told this process about its place in a group."""
    return {name: value for name, value in os.environ.items() if LAUNCHED.fullmatch(name)}


def module(*arguments: str) -> list[str]:
    """Return the command that runs `python -m ARGUMENTS`."""
    return [sys.executable, "-m", *arguments]


def run(command: Sequence[str], extra: Mapping[str, str], tasks: int = 1) -> str:
    """Return what it prints; raise ChildError when it fails or takes too long for its tasks."""
    # Files, not pipes: a grandchild that outlives a launcher would keep a pipe open for ever.
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=log,
            env=environment(extra), start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(tasks * TIMEOUT)
        except subprocess.TimeoutExpired:
            _end(process)
            raise ChildError(
                f"{command[-1]} did not end within {tasks * TIMEOUT} s: {gist(_read(log))}"
            ) from None
        except BaseException:
            _end(process)
            raise
        if code:
            raise ChildError(f"exit code {code}: {gist(_read(log))}")
        return _read(output)


def _read(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started, kindly first: torchrun then ends its own processes."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_json(output: str) -> Any:
    """Return the value on the last line."""
    lines = output.strip().splitlines()
    if not lines:
        raise ChildError("the process printed nothing")
    return json.loads(lines[-1])


def gist(log: str, lines: int = 6, causes: int = 3) -> str:
    """Return the first lines that name an error, and the end of a log, on one line.

    A launcher's own words come last and say that a process failed; why is far above them.
    """
    said = [line.strip() for line in log.strip().splitlines()]
    end = said[-lines:]
    named = [line[:MOST] for line in said[:-lines] if ERROR.search(line) or is_known(line)]
    told = [*dict.fromkeys(named)][:causes] + [line[:MOST] for line in end]
    return " | ".join(told) or "no message"
