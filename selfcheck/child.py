"""Run a module of selfcheck in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TIMEOUT = 300  # seconds


class ChildError(RuntimeError):
    """The process failed; the message holds the end of what it said."""


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Our own environment, in which `selfcheck` can be imported, and `extra`."""
    package = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, **extra}


def module(*arguments: str) -> list[str]:
    """The command that runs `python -m ARGUMENTS`."""
    return [sys.executable, "-m", *arguments]


def run(command: Sequence[str], extra: Mapping[str, str]) -> str:
    """What it prints; raises ChildError when it fails or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT,
            env=environment(extra),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ChildError(f"{command[-1]} did not end within {TIMEOUT} s") from None
    if done.returncode:
        raise ChildError(f"exit code {done.returncode}: {tail(done.stderr)}")
    return done.stdout


def last_json(output: str) -> Any:
    """The value on the last line."""
    lines = output.strip().splitlines()
    if not lines:
        raise ChildError("the process printed nothing")
    return json.loads(lines[-1])


def tail(text: str, lines: int = 6) -> str:
    """The end of a log, on one line."""
    return " | ".join(line.strip() for line in text.strip().splitlines()[-lines:]) or "no message"
