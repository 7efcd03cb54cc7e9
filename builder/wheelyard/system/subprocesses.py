"""The only module that starts other programs: argument lists in, text out, never a shell."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wheelyard.errors import MachineError, StorageError, ToolMissingError, WheelyardError
from wheelyard.system.storage import REMEDY
from wheelyard.system.urls import redact_text

SubprocessError = subprocess.SubprocessError  # what calls outside this package may raise
_TAIL_LINES = 20
_GRACE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a finished program."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def tail(self) -> str:
        """The last lines of its log, credentials in URLs masked."""
        log = self.stderr.strip() or self.stdout.strip()
        return redact_text("\n".join(log.splitlines()[-_TAIL_LINES:]))


def run(
    argv: Sequence[str],
    *,
    error: type[WheelyardError] | None,
    what: str = "",
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    fds: Sequence[int] = (),
) -> Result:
    """Run `argv` to its end and return its output.

    `env` replaces the environment, `timeout` is in seconds, `fds` are descriptors of files that the
    program inherits. A non-zero exit code or a time-out raises `error` with `what` and the log's
    tail; with `error=None` the caller judges the exit code. Raises ToolMissingError for a program
    that is not installed.
    """
    result = _communicate(tuple(argv), env, stdin, cwd, timeout, fds)
    if error is not None and result.returncode != 0:
        raise error(failure(result, what))
    return result


def follow(
    argv: Sequence[str],
    on_line: Callable[[str], None],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> int:
    """Run `argv`, pass on each line of its output and errors as it arrives, return the exit code.

    Credentials in URLs are masked. However the call ends, the program ends first.
    """
    process = _start(tuple(argv), env, False, cwd, merged=True)
    with process:
        try:
            for line in process.stdout or ():
                on_line(redact_text(line))
        except BaseException:
            _stop(process)
            raise
    return process.returncode


def failure(result: Result, what: str = "", advice: str = "") -> str:
    """Describe a failed program: its name, its exit code, the end of its log, and what to do."""
    head = f"{what or Path(result.argv[0]).name} failed (exit code {result.returncode})"
    return "\n".join(part for part in (f"{head}:", _indent(result.tail), advice) if part)


def _communicate(
    argv: tuple[str, ...],
    env: Mapping[str, str] | None,
    stdin: str | None,
    cwd: Path | None,
    timeout: float | None,
    fds: Sequence[int],
) -> Result:
    process = _start(argv, env, stdin is not None, cwd, fds=fds)
    with process:
        try:
            stdout, stderr = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            stdout, stderr = _stop(process)
            stderr += f"\nnot finished after {timeout:g} seconds"
        except BaseException:
            _stop(process)
            raise
    return Result(argv, process.returncode, stdout, stderr)


def _start(
    argv: tuple[str, ...],
    env: Mapping[str, str] | None,
    feed: bool,
    cwd: Path | None,
    merged: bool = False,
    fds: Sequence[int] = (),
) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            env=None if env is None else dict(env),
            cwd=cwd,
            encoding="utf-8",
            errors="replace",
            pass_fds=tuple(fds),
            process_group=0,  # so that it can be ended together with what it starts
        )
    except FileNotFoundError as missing:
        raise ToolMissingError(f"cannot start {argv[0]}: {missing.strerror}; install it") from None
    except OSError as refused:
        raise _not_started(argv[0], cwd, refused) from refused


def _not_started(program: str, cwd: Path | None, refused: OSError) -> WheelyardError:
    """Tell a program that may not run from one on a file system where nothing may run."""
    shown = Path(cwd or Path(), program) if "/" in program else Path(program)
    what = f"cannot start {shown}: {refused.strerror}"
    with suppress(OSError):
        if "/" in program and os.statvfs(shown).f_flag & os.ST_NOEXEC:
            return StorageError(f"{what}, its file system is mounted with noexec; {REMEDY}")
    if refused.errno in (errno.EAGAIN, errno.ENOMEM):
        return MachineError(
            f"{what}; too many processes are running: free memory, or raise `ulimit -u`"
        )
    return ToolMissingError(what)


def _stop(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End a program and its children, with SIGTERM first: mmdebstrap and apt clean up on it.

    mmdebstrap waits for its children before it cleans up, and does not tell them to end.
    """
    _signal(process, signal.SIGTERM)
    try:
        return process.communicate(timeout=_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        return process.communicate()


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
