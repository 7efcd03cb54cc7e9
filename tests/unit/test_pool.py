"""Worker processes: results, order, and what a dying one leaves."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from wheels import make_wheel

from wheelyard.errors import StorageError, WheelError
from wheelyard.images.assemble.bytecode import Interpreter
from wheelyard.images.assemble.pool import run_jobs
from wheelyard.images.assemble.store import LayerStore
from wheelyard.images.assemble.worker import WheelJob
from wheelyard.layers.layer import Layer
from wheelyard.layers.wheels import WheelInput


def job(folder: Path, name: str, weight: int = 1) -> WheelJob:
    path = make_wheel(folder, name, "1.0", {f"{name}/data.bin": name.encode() * 100_000})
    scratch = folder / f"{name}.scratch"
    return WheelJob(name, name, (WheelInput(path, name, "1.0"),), "3.11", scratch, weight=weight)


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_every_job_ends_whatever_the_number_of_workers(tmp_path: Path, workers: int) -> None:
    jobs = [job(tmp_path, name, i) for i, name in enumerate("abcd")]
    grown: list[int] = []
    results = {j.key: r for j, r in run_jobs(jobs, workers, grown.append)}
    assert all(isinstance(r, Layer) for r in results.values())
    assert sorted(results) == list("abcd")
    alone = {j.key: r for j, r in run_jobs(jobs, 1, grown.append)}
    assert results == alone


def test_the_heaviest_starts_first(tmp_path: Path) -> None:
    jobs = [job(tmp_path, name, weight) for name, weight in (("a", 1), ("b", 9), ("c", 5))]
    assert [j.key for j, _ in run_jobs(jobs, 1, lambda _: None)] == ["b", "c", "a"]


def test_one_bad_wheel_does_not_stop_the_others(tmp_path: Path) -> None:
    bad = job(tmp_path, "bad")
    bad.wheels[0].path.write_bytes(b"no zip")
    results = {j.key: r for j, r in run_jobs([bad, job(tmp_path, "good")], 2, lambda _: None)}
    assert isinstance(results["good"], Layer)
    assert isinstance(results["bad"], WheelError)
    assert not bad.scratch.exists()


def test_a_killed_worker_is_noticed(tmp_path: Path) -> None:
    """The interpreter of this job kills the worker that starts it, as the kernel would."""
    killer = tmp_path / "root" / "lib64" / "ld-linux-x86-64.so.2"
    killer.parent.mkdir(parents=True)
    killer.write_text("#!/bin/sh\nkill -9 $PPID\n")
    killer.chmod(0o755)
    path = make_wheel(tmp_path, "a", "1.0", {"a/x.py": "x = 1\n"})
    doomed = replace(
        job(tmp_path, "b"),
        wheels=(WheelInput(path, "a", "1.0"),),
        interpreter=Interpreter(tmp_path / "root", "3.11", "x"),
    )
    ((_, result),) = run_jobs([doomed], 1, lambda _: None)
    assert isinstance(result, WheelError)
    assert "--workers 1" in str(result)


def test_no_permission_is_a_storage_error(tmp_path: Path) -> None:
    missing = replace(job(tmp_path, "a"), scratch=tmp_path / "nowhere" / "blob")
    ((_, result),) = run_jobs([missing], 1, lambda _: None)
    assert isinstance(result, StorageError)


def test_leaving_early_kills_what_runs(tmp_path: Path) -> None:
    jobs = [job(tmp_path, name) for name in "abcdef"]
    running = run_jobs(jobs, 2, lambda _: None)
    next(iter(running))
    running.close()  # type: ignore[attr-defined]
    left = [j.scratch for j in jobs if j.scratch.exists()]
    assert len(left) <= 1  # the finished one's, which the caller takes over


def test_scratch_is_swept_when_nobody_holds_it(tmp_path: Path) -> None:
    """By a lock: in two containers that share a cache, every process id means two processes."""
    store = LayerStore(tmp_path)
    mine = store.scratch()
    mine.write_bytes(b"x")
    script = (
        "import os, sys; from pathlib import Path;"
        "from wheelyard.images.assemble.store import LayerStore;"
        "store = LayerStore(Path(sys.argv[1])); store.scratch().write_bytes(b'x'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert len(list((tmp_path / "tmp").iterdir())) == 2
    LayerStore(tmp_path)
    assert list((tmp_path / "tmp").iterdir()) == [mine.parent]
    del store
    assert not list((tmp_path / "tmp").iterdir())


def test_scratch_that_nobody_ever_held_goes_after_a_day(tmp_path: Path) -> None:
    """A folder there is no obstacle, whatever it is called."""
    folder, file = tmp_path / "tmp/99999999-x", tmp_path / "tmp/1-earlier"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"x")
    file.write_bytes(b"x")
    LayerStore(tmp_path)
    assert folder.exists()
    assert file.exists()
    for path in (folder, file):
        os.utime(path, (0, 0))
    LayerStore(tmp_path)
    assert not list((tmp_path / "tmp").iterdir())


def test_jobs_that_become_possible_later_are_run(tmp_path: Path) -> None:
    coming = iter([[], [job(tmp_path, "b")], [], [job(tmp_path, "c"), job(tmp_path, "d")]])
    first = [job(tmp_path, "a")]
    results = {j.key: r for j, r in run_jobs(first, 2, lambda _: None, lambda: next(coming, None))}
    assert sorted(results) == list("abcd")
    assert all(isinstance(r, Layer) for r in results.values())
