"""What a program and the engine that works for it cost: seconds, bytes, processor time."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.benchmark.measure import NotMeasuredError
from tests.benchmark.memory import tree

SERVER = "docker-registry"  # elsewhere in earnest, so its work is not counted
TICKS = os.sysconf("SC_CLK_TCK")
ADOPT = 36  # PR_SET_CHILD_SUBREAPER of linux/prctl.h


@dataclass(frozen=True, slots=True)
class Cost:
    """What a step took."""

    seconds: float
    wire_bytes: int
    cpu_seconds: float  # of the client and the engine, all that they started included

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            round(self.seconds + other.seconds, 2),
            self.wire_bytes + other.wire_bytes,
            round(self.cpu_seconds + other.cpu_seconds, 2),
        )


def measured(
    argv: Sequence[str],
    log: Path,
    *,
    env: Mapping[str, str],
    cwd: Path,
    stdin: Path = Path(os.devnull),
) -> Cost:
    """Run to the end; engines that this process has started count too.

    Raises NotMeasuredError with the end of the log when the program fails.
    """
    os.sync()  # what others left to be written is not part of it
    carried, used, start = wire_bytes(), cpu_seconds(), time.perf_counter()
    with log.open("ab") as out, stdin.open("rb") as given:
        process = subprocess.Popen(argv, stdin=given, stdout=out, stderr=out, env=env, cwd=cwd)
        try:
            process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    seconds = time.perf_counter() - start
    if process.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise NotMeasuredError(f"{' '.join(argv[:6])} failed:\n{tail}")
    return Cost(round(seconds, 2), wire_bytes() - carried, round(cpu_seconds() - used, 2))


def wire_bytes() -> int:
    """Bytes that loopback has carried, headers of TCP and IP included (under 1 %)."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    (loopback,) = (line for line in lines if line.strip().startswith("lo:"))
    return int(loopback.partition(":")[2].split()[0])


def adopt_orphans() -> None:
    """Let processes whose parent is gone be ours, so that what they used is not lost."""
    ctypes.CDLL(None).prctl(ADOPT, 1, 0, 0, 0)


def cpu_seconds() -> float:
    """What this process and all below it have used so far; what has ended stands in its parent.

    Without `adopt_orphans` a build's pool is not seen: its server outlives the build by a moment.
    """
    used = 0
    for pid in tree(os.getpid()):
        with suppress(OSError):
            head, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
            if head.partition("(")[2] != SERVER:
                used += sum(map(int, rest.split()[11:15]))  # utime stime cutime cstime
    return used / TICKS
