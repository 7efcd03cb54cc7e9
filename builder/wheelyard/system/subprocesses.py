"""The only module that starts other programs: argument lists in, text out, never a shell."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import textwrap
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from wheelyard.errors import MachineError, StorageError, ToolMissingError, WheelyardError
from wheelyard.system.storage import REMEDY
from wheelyard.system.urls import redact_text

SubprocessError = subprocess.SubprocessError  # what calls outside this package may raise
_TAIL_LINES = 20
_GRACE_SECONDS = 10.0
_KEPT_LINES, _LINE_LENGTH = 10_000, 1 << 16  # of errors that are followed


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
    on_error_line: Callable[[str], None] | None = None,
) -> Result:
    """Run `argv` to its end and return its output.

    `env` replaces the environment, `timeout` is in seconds, `fds` are descriptors of files that the
    program inherits, `on_error_line` is given each line of its errors as it arrives. A
    non-zero exit code or a time-out raises `error` with `what` and the log's tail; with
    `error=None` the caller judges the exit code. Raises ToolMissingError for a program that is not
    installed.
    """
    result = _communicate(tuple(argv), env, stdin, cwd, timeout, fds, on_error_line)
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
    return "\n".join(
        part for part in (f"{head}:", textwrap.indent(result.tail, "  "), advice) if part
    )


def _communicate(
    argv: tuple[str, ...],
    env: Mapping[str, str] | None,
    stdin: str | None,
    cwd: Path | None,
    timeout: float | None,
    fds: Sequence[int],
    on_error_line: Callable[[str], None] | None,
) -> Result:
    process = _start(argv, env, stdin is not None, cwd, fds=fds)
    with process:
        errors = None if on_error_line is None else _ErrorLines(process, on_error_line)
        try:
            stdout, stderr = process.communicate(stdin, timeout)
            stderr = errors.text() if errors else stderr
        except subprocess.TimeoutExpired:
            stdout, stderr = _stop(process)
            stderr = errors.text() if errors else stderr
            stderr += f"\nnot finished after {timeout:g} seconds"
        except BaseException:
            _stop(process)
            raise
    return Result(argv, process.returncode, stdout, stderr)


class _ErrorLines:
    """Reads a program's errors beside `communicate`, which then reads its output alone."""

    def __init__(self, process: subprocess.Popen[str], on_line: Callable[[str], None]) -> None:
        self._stream, process.stderr = process.stderr, None
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._on_line = on_line
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._stream or nullcontext(None) as stream:
            while stream is not None and (line := stream.readline(_LINE_LENGTH)):
                self._lines.append(line)
                self._on_line(redact_text(line))

    def text(self) -> str:
        """Return the last lines; a child that outlives the program is not waited for."""
        self._thread.join(_GRACE_SECONDS)
        return "".join(tuple(self._lines))


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
