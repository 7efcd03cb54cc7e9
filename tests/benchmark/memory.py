"""Peak memory of a build that knows no layer: the process and all that it starts, together."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.benchmark.measure import Measurement, NotMeasuredError
from tests.benchmark.place import Place, build_command, prepared, wheel_files

LIMIT = 500e6  # bytes
INTERVAL = 0.03  # seconds between two looks


@dataclass(slots=True)
class Peak:
    """The most that was seen, in bytes."""

    pss: int = 0  # of the tree: a page shared by n processes counts 1/n in each
    rss: int = 0  # of the tree: a shared page counts in every process
    single: int = 0  # resident in one process
    processes: int = 0
    looks: int = 0


def measure(place: Place, _runs: int | None) -> list[Measurement]:
    """One build, watched; not one whose time counts."""
    prepared(place)
    largest = max(path.stat().st_size for path in wheel_files(place))
    peak = watched_build(place)
    return [
        Measurement(
            "memory", "peak of a cold build, all processes", float(peak.pss), "bytes",
            "its largest wheel", float(largest), LIMIT,
            details={
                "proportional_bytes": peak.pss, "resident_bytes": peak.rss,
                "largest_process_bytes": peak.single, "processes": peak.processes,
                "looks": peak.looks,
            },
        )
    ]  # fmt: skip


def watched_build(place: Place) -> Peak:
    """Run a cold build and look at its processes until it ends."""
    cache, output = place.new_cache(), place.new("output")
    peak = Peak()
    command = build_command(place.image, output, cache, "--recompute")
    with subprocess.Popen(command, cwd=place.project, stdout=subprocess.DEVNULL) as process:
        watcher = threading.Thread(target=_watch, args=(process, peak))
        watcher.start()
        process.wait()
        watcher.join()
    shutil.rmtree(output)
    shutil.rmtree(cache)
    if process.returncode or not peak.looks:
        raise NotMeasuredError("the build failed, or /proc does not show its memory")
    return peak


def _watch(process: subprocess.Popen[bytes], peak: Peak) -> None:
    while process.poll() is None:
        sizes = [size for pid in tree(process.pid) if (size := memory_of(pid))]
        if sizes:
            peak.pss = max(peak.pss, sum(pss for pss, _ in sizes))
            peak.rss = max(peak.rss, sum(rss for _, rss in sizes))
            peak.single = max(peak.single, *(rss for _, rss in sizes), 0)
            peak.processes = max(peak.processes, len(sizes))
            peak.looks += 1
        time.sleep(INTERVAL)


def tree(root: int) -> list[int]:
    """A process and all below it."""
    children = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # pid (name) state ppid ...; the name may hold anything, brackets too
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children[parent].append(int(path.parent.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def memory_of(pid: int) -> tuple[int, int] | None:
    """Proportional and resident bytes of a process; None if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return None
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return sizes["Pss"], sizes["Rss"]
