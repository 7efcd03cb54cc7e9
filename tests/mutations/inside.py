"""Run one check for each of many faults, in an image: `python inside.py FRAMEWORK FOLDER`.

FOLDER has `jobs.json` and the sound `selfcheck`. The framework is imported once, then every fault
gets a copy of selfcheck and a forked process. Prints a line of JSON a job. Stands alone.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

PATIENCE = 240  # seconds
NO_CHECK, NO_CHECK_CODE = "there is no such check", 3


def main(framework: str, folder: Path) -> None:
    """Do all jobs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    importlib.import_module({"pytorch": "torch"}.get(framework, framework))
    for job in json.loads((folder / "jobs.json").read_text()):
        print(json.dumps({"name": job["name"], **done(job, framework, folder)}), flush=True)


def done(job: dict[str, str], framework: str, folder: Path) -> dict[str, Any]:
    """What the job's check says of selfcheck with the job's fault."""
    place = folder / "faulty"
    shutil.copytree(folder / "selfcheck", place / "selfcheck")
    target = place / "selfcheck" / job["file"]
    target.write_text(target.read_text().replace(job["old"], job["new"]) if job["old"] else
                      target.read_text())  # fmt: skip
    start = time.monotonic()
    child = os.fork()
    if not child:
        check(job["seen_by"], framework, place)
    result: dict[str, Any] = {"status": "hang", "reason": f"not done within {PATIENCE} s"}
    while time.monotonic() - start < PATIENCE:
        ended, code = os.waitpid(child, os.WNOHANG)
        if ended:
            answer = place / "answer.json"
            result = (
                json.loads(answer.read_text())
                if answer.exists()
                else {"status": "none", "reason": NO_CHECK}
                if os.waitstatus_to_exitcode(code) == NO_CHECK_CODE
                else {"status": "crash", "reason": f"wait status {code}"}
            )
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
    shutil.rmtree(place)
    return {**result, "seconds": round(time.monotonic() - start, 1)}


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
    main(sys.argv[1], Path(sys.argv[2]))
