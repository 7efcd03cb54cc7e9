"""Seconds, memory and received bytes of a program and of the engine that works for it."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmark.measure import NotMeasuredError
from tests.benchmark.memory import memory_of, tree

INTERVAL = 0.25  # seconds between two looks


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run cost."""

    seconds: float
    peak_bytes: int  # proportional set sizes, added: the command, the engine, all they started
    received_bytes: int  # by this machine's network interfaces, loopback aside


def watched(
    argv: Sequence[str],
    log: Path,
    *,
    env: Mapping[str, str],
    cwd: Path,
) -> Sample:
    """Run to the end; an engine that this process has started counts too.

    Raises NotMeasuredError with the end of the log when the program fails.
    """
    before, start, peak = received(), time.perf_counter(), [0]
    with log.open("ab") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=out, env=dict(env), cwd=cwd)
        watcher = threading.Thread(target=_watch, args=(process, peak))
        watcher.start()
        process.wait()
        seconds = time.perf_counter() - start
        watcher.join()
    if process.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise NotMeasuredError(f"{' '.join(argv[:6])} failed:\n{tail}")
    return Sample(round(seconds, 2), peak[0], received() - before)


def received() -> int:
    """Bytes that came over the network since the machine started."""
    total = 0
    for line in Path("/proc/net/dev").read_text().splitlines()[2:]:
        name, _, numbers = line.partition(":")
        if name.strip() != "lo":
            total += int(numbers.split()[0])
    return total


def _watch(process: subprocess.Popen[bytes], peak: list[int]) -> None:
    while process.poll() is None:
        sizes = (memory_of(pid) for pid in tree(os.getpid())[1:])
        peak[0] = max(peak[0], sum(size[0] for size in sizes if size))
        time.sleep(INTERVAL)
