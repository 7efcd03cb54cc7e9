"""Run one check for each of many faults, in an image: `python inside.py FRAMEWORK FOLDER NUMBER`.

FOLDER has `jobs.json` and the sound `selfcheck`. The framework is imported once, then every fault
gets a copy of selfcheck and a forked process, NUMBER of them at a time. Prints a line of JSON a
job. Stands alone.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from kept import NO_CHECK, files_read, forget_reads  # type: ignore[import-not-found]

PATIENCE = 900  # seconds, where others use the machine as well
NO_CHECK_CODE = 3


def main(framework: str, folder: Path, number: int) -> None:
    """Do all jobs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    threads = str(max(1, len(os.sched_getaffinity(0)) // number))
    os.environ.setdefault("OMP_NUM_THREADS", threads)
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", threads)
    importlib.import_module({"pytorch": "torch"}.get(framework, framework))
    jobs = json.loads((folder / "jobs.json").read_text())
    running: dict[int, Running] = {}
    while jobs or running:
        while jobs and len(running) < number:
            started = Running(jobs.pop(0), framework, folder)
            running[started.child] = started
        for child, each in list(running.items()):
            if (result := each.result()) is not None:
                del running[child]
                print(json.dumps({"name": each.job["name"], **result}), flush=True)
        time.sleep(0.05)


class Running:
    """A forked process with its own copy of selfcheck, the fault in it."""

    def __init__(self, job: dict[str, str], framework: str, folder: Path) -> None:
        self.job, self.start = job, time.monotonic()
        self.place = folder / f"faulty-{job['number']}"
        shutil.copytree(folder / "selfcheck", self.place / "selfcheck")
        target = self.place / "selfcheck" / job["file"]
        if job["old"]:
            target.write_text(target.read_text().replace(job["old"], job["new"]))
        forget_reads(self.place / "selfcheck")
        self.child = os.fork()
        if not self.child:
            os.setsid()  # so that what it starts can be ended with it
            check(job["seen_by"], framework, self.place)

    def result(self) -> dict[str, Any] | None:
        """What the job's check says; None as long as it runs."""
        ended, code = os.waitpid(self.child, os.WNOHANG)
        seconds = time.monotonic() - self.start
        if not ended and seconds < PATIENCE:
            return None
        with suppress(ProcessLookupError):
            os.killpg(self.child, signal.SIGKILL)
        if not ended:
            os.waitpid(self.child, 0)
            said = {"status": "hang", "reason": f"not done within {PATIENCE} s"}
        elif (self.place / "answer.json").exists():
            said = json.loads((self.place / "answer.json").read_text())
        elif os.waitstatus_to_exitcode(code) == NO_CHECK_CODE:
            said = {"status": "none", "reason": NO_CHECK}
        else:
            said = {"status": "crash", "reason": f"wait status {code}"}
        read = files_read(self.place / "selfcheck")
        shutil.rmtree(self.place)
        return {**said, "seconds": round(seconds, 1), "read": read}


def check(name: str, framework: str, place: Path) -> None:
    """Run one check of the copy in `place`; never returns."""
    sys.path.insert(0, str(place))
    cli = importlib.import_module("selfcheck.cli")
    group, what, *_rest = name.split(".")
    more = {"train": ["--model", what], "burn": ["--minutes", "0.05"]}.get(group, [])
    arguments = [group, "--device", "cpu", "--framework", framework, *more]
    try:
        given = cli.make_parser().parse_args(arguments)
    except SystemExit:  # an earlier selfcheck does not know this model
        os._exit(NO_CHECK_CODE)
    options = cli._options(given, cli.load_cell(None))
    with Path("/dev/null").open("w") as nothing:
        os.dup2(nothing.fileno(), 2)
    works = [each for each in cli.GROUPS[group](options) if each[0] == name]
    if len(works) != 1:
        os._exit(NO_CHECK_CODE)
    result = cli.run_check(works[0], options)
    text = json.dumps({"status": result.status, "reason": (result.reason or "")[:300]})
    (place / "answer.json").write_text(text)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
