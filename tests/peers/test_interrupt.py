"""Ctrl-C at many moments of a real build: nothing stays behind, and the next run goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.project import digest_of
from tests.peers.site import Site, as_options
from wheelyard.errors import INTERRUPTED

PATIENCE = 120  # seconds until a moment has come
END = 15  # seconds that an interrupted build may take to end
AFTER = 2  # seconds that a helper may take to see that its parent is gone


@dataclass(frozen=True)
class Bench:
    """One cache and one layout that every interrupted build works on, and its temporary folder."""

    site: Site
    folder: Path

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def interrupt(self, moment: Callable[[int], object], whole_group: bool) -> str:
        """Start a build, interrupt it at the moment, and check that it leaves nothing running."""
        process = self.site.start(self.folder, TMPDIR=str(self.temporary))
        try:
            wait_for(moment, process)
            kill = os.killpg if whole_group else os.kill
            kill(process.pid, signal.SIGINT)
            _, stderr = process.communicate(timeout=END)
            wait_for(lambda session: not members(session), process, AFTER)
        finally:
            left = members(process.pid)
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.communicate()
        assert left == {}
        assert process.returncode == INTERRUPTED, stderr
        assert "run the command again to continue" in stderr
        assert "Traceback" not in stderr
        assert [path.name for path in self.temporary.iterdir()] == []
        return stderr


def wait_for(
    moment: Callable[[int], object], process: subprocess.Popen[str], seconds: float = PATIENCE
) -> None:
    """Wait until `moment` is true of the build's session; it is asked a hundred times a second."""
    deadline = time.monotonic() + seconds
    while not moment(process.pid):
        if seconds == PATIENCE and process.poll() is not None:
            pytest.fail(f"the build ended before the moment came: {process.communicate()[1]}")
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)


def there(folder: Path, pattern: str) -> bool:
    """Whether something matches, in folders that others make and remove meanwhile."""
    with suppress(FileNotFoundError):
        return any(folder.glob(pattern))
    return False


def compiling(session: int) -> bool:
    """Whether the image's Python is at work, below a worker."""
    return any("compile_worker" in command for command in members(session).values())


def members(session: int) -> dict[int, str]:
    """The living processes of a session, by their command lines."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            # pid (name) state ppid pgrp session (proc(5)); a name may hold blanks.
            state, _, _, number = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(number) == session and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError):
            continue
    return found


@pytest.fixture
def bench(site: Site, tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "tmp").mkdir()
    yield Bench(site, tmp_path)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("whole_group", [False, True], ids=["kill", "terminal"])
def test_interrupted_at_every_stage_and_then_completed(
    bench: Bench, first: Path, whole_group: bool
) -> None:
    """A terminal sends Ctrl-C to everything that runs in it, `kill -INT` to us alone."""
    mirror = bench.site.mirror
    asked = len(mirror.requests)

    mirror.faults[".deb"] = ["stall"] * 8
    try:
        bench.interrupt(
            lambda _: sum(p.endswith(".deb") for p, _ in mirror.requests[asked:]) >= 8, whole_group
        )
    finally:
        mirror.faults.clear()
    assert list(bench.cache.glob("files/*/*/*.deb.part"))

    bench.interrupt(
        lambda _: there(bench.temporary, "wheelyard-base-*/mmdebstrap.*/var/lib/dpkg/info/*"),
        whole_group,
    )
    assert not there(bench.cache, "tmp/*")

    # The root file system, and the first layer that is made of it.
    bench.interrupt(lambda _: len(list(bench.cache.glob("tmp/*/[!.]*"))) > 1, whole_group)
    bench.interrupt(compiling, whole_group)
    assert list(bench.cache.glob("files/*/*/ballast-*.whl"))

    before = {path for path in bench.cache.glob("files/*/*/*") if path.is_file()}
    asked = len(mirror.requests)
    built = bench.site.build(bench.folder, *as_options(bench.site.settings))
    assert built.returncode == 0, built.stderr
    assert digest_of(bench.folder / "dist") == digest_of(first / "dist")
    assert not [
        p for p, _ in mirror.requests[asked:] if p.rpartition("/")[2] in {x.name for x in before}
    ]
    assert not list(bench.cache.glob("tmp/*"))
