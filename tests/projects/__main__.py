"""`python -m tests.projects`: public projects locked, built, and run one step in two engines.

All stand on one image, which each engine keeps once: a project adds its own layers. What fails is
recorded with its reason.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmark.measure import say
from tests.benchmark.publication import run_as_program
from tests.engines.daemons import client_environment, own_engine, temporary_folder
from tests.engines.podman import LIMITS, rootless
from tests.projects.public import PUBLIC, Public
from tests.use.users import OUTSIDE
from wheelyard.console.table import show_table
from wheelyard.planning.plan import load_plan
from wheelyard.projects.base import planned_base
from wheelyard.projects.pylock import read_lock
from wheelyard.system.textfiles import write_text

REPOSITORY = Path(__file__).parents[2]
RESULT = REPOSITORY / "docs" / "results" / "projects.json"
BASE = "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11"
IMAGE = f"{BASE}-runtime".replace(":", "-")
STEPS = Path(__file__).parent / "steps"
TIMEOUT = 900
ENGINES = ("docker", "podman")
Step = Callable[[str], str]  # the image's name -> what its command prints


class FailedError(Exception):
    """A command that ended with an error; its last lines."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where all is made."""

    folder: Path
    dist: Path
    engines: Path  # where they keep their images


def main(argv: Sequence[str] | None = None) -> int:
    """Try the projects, print a table, write JSON; 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.projects", description=__doc__)
    names = [public.name for public in PUBLIC]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--engines", nargs="*", choices=ENGINES, default=ENGINES)
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--folder", type=Path, help="for layouts, best beside the cache")
    parser.add_argument("--engine-folder", type=Path, help="for 8 GB of an engine's images")
    args = parser.parse_args(argv)
    chosen = [public for public in PUBLIC if public.name in args.only]
    entries: dict[str, dict[str, Any]] = {}
    with temporary_folder(args.folder) as folder:
        folder.chmod(0o755)
        bench = Bench(folder, folder / "dist", args.engine_folder or folder)
        wheelyard(REPOSITORY, "build", IMAGE, "--no-load", "--output", str(bench.dist))
        for public in chosen:
            entries[public.name] = made(public, bench)
        built = [public for public in chosen if "failed" not in entries[public.name]]
        for engine in args.engines:
            with ENGINE[engine](bench) as (version, step):
                for public in built:
                    entries[public.name]["ran"][engine] = ran(public, version, step)
    known = json.loads(args.output.read_text()) if args.output.exists() else {}
    for name, entry in entries.items():
        before = known.get(name, {})
        if before.get("requirements") == entry["requirements"]:
            entry["ran"] = {**before["ran"], **entry["ran"]}
    found = {name: one for name in names if (one := entries.get(name) or known.get(name))}
    write_text(args.output, json.dumps(found, indent=1) + "\n")
    return report(entries)


def made(public: Public, bench: Bench) -> dict[str, Any]:
    """Lock and build one; its record, with why it failed if it did."""
    folder = write_project(public, bench.folder / public.name)
    entry: dict[str, Any] = {
        "source": public.source,
        "image": BASE,
        "requirements": facts(public),
        "change": public.change,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "ran": {},
    }
    try:
        for command in ("lock", "build"):
            more = ["--project", str(REPOSITORY)] if command == "lock" else [
                "--output", str(bench.dist), "--no-load"]  # fmt: skip
            start = time.perf_counter()
            wheelyard(folder, command, *more)
            entry[f"{command}_seconds"] = round(time.perf_counter() - start, 1)
            say(f"{public.name}: {command} {entry[f'{command}_seconds']} s")
    except FailedError as error:
        say(f"{public.name}: {error}")
        return entry | {"failed": str(error)}
    lock = read_lock(folder / "pylock.toml")
    added = lock.added(planned_base(BASE, load_plan(REPOSITORY), REPOSITORY))
    entry["wheels"] = len(added)
    entry["bytes"] = sum(item.wheel.size for item in added)
    entry["replaced"] = [wheel.name for wheel in lock.shadowed]
    return entry


def facts(public: Public) -> list[str]:
    """What decides a project's image: a record of others is not one of it."""
    return [*public.requirements, *(f"Debian: {x}" for x in public.packages)]


def page_rows(entries: dict[str, dict[str, Any]]) -> list[str]:
    """The lines of the table in docs/projects.md."""
    rows = ["| project | adds | what to change | Docker | podman |"]
    for entry in entries.values():
        ran = [entry["ran"].get(engine, {}) for engine in ENGINES]
        said = ["yes" if one.get("outcome") == "passed" else "no" for one in ran]
        adds = (
            f"{entry['wheels']} wheels, {entry['bytes'] / 1e6:.0f} MB" if "wheels" in entry else ""
        )
        rows.append(f"| {entry['source']} | {adds} | {entry['change']} | {' | '.join(said)} |")
    return rows


def write_project(public: Public, folder: Path) -> Path:
    """What a user of the project has, with a step of our own."""
    if not public.requirements:
        return Path(shutil.copytree(REPOSITORY / public.source, folder))
    folder.mkdir()
    (folder / "requirements.txt").write_text("".join(f"{x}\n" for x in public.requirements))
    packages = f"packages = {json.dumps(public.packages)}\n" if public.packages else ""
    (folder / "wheelyard.toml").write_text(
        f'image = "{BASE}"\nname = "{public.name}"\nrequirements = ["requirements.txt"]\n'
        f'{packages}command = ["python", "step.py"]\n'
    )
    shutil.copyfile(STEPS / f"{public.name}.py", folder / "step.py")
    return folder


def ran(public: Public, version: str, step: Step) -> dict[str, Any]:
    """Run its step in one engine; the record."""
    start = time.perf_counter()
    try:
        printed = step(f"{public.name}:latest")
        outcome = {"outcome": "passed"} if public.says in printed else {
            "outcome": "failed", "reason": "it did not say that the step was done"}  # fmt: skip
    except FailedError as error:
        outcome = {"outcome": "failed", "reason": str(error)}
    seconds = round(time.perf_counter() - start, 1)
    say(f"{public.name}, {version}: {outcome} {seconds} s")
    return {"version": version, "seconds": seconds, **outcome}


@contextmanager
def docker(bench: Bench) -> Iterator[tuple[str, Step]]:
    """Docker of our own, with bridge and network for nobody."""
    with temporary_folder(bench.engines) as folder, own_engine(folder) as client:
        variables = client_environment(folder)
        words = ("build", "--output", str(bench.dist))
        wheelyard(REPOSITORY, *words, IMAGE, **variables)

        def step(image: str) -> str:
            wheelyard(bench.folder / image.partition(":")[0], *words, **variables)
            try:
                argv = ["docker", "run", "--rm", "--network=none", image]
                return run(argv, bench.folder, variables)
            finally:  # what it adds; the base stays
                run(["docker", "rmi", "--force", image], bench.folder, variables)

        yield f"Docker {client.version()['Version']}", step


@contextmanager
def podman(bench: Bench) -> Iterator[tuple[str, Step]]:
    """The podman of an ordinary user."""
    with temporary_folder(bench.engines) as folder, temporary_folder() as state:
        storage, layout = rootless(folder, state, bench.dist, OUTSIDE)
        version = storage.podman("version", "--format={{.Client.Version}}").strip()
        storage.take(layout, BASE)

        def step(image: str) -> str:
            name = storage.take(layout, image)
            try:
                words = ("run", "--rm", "--network=none", LIMITS, name)
                return run([*storage.podman_command(), *words], bench.folder)
            finally:
                storage.podman("rmi", "--force", name)

        yield f"podman {version}, rootless", step


ENGINE = {"docker": docker, "podman": podman}


def wheelyard(folder: Path, *words: str, **environ: str) -> str:
    """Run the program as a user does."""
    return run([sys.executable, "-m", "wheelyard", "--quiet", *words], folder, environ)


def run(argv: Sequence[str], folder: Path, environ: dict[str, str] | None = None) -> str:
    """Run a program to its end; raise FailedError if it fails."""
    environ = {**os.environ, **(environ or {})}
    done = subprocess.run(
        argv, cwd=folder, env=environ, check=False, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", timeout=TIMEOUT,
    )  # fmt: skip
    if done.returncode:
        raise FailedError("\n".join(done.stdout.splitlines()[-15:]))
    return done.stdout


def report(entries: dict[str, dict[str, Any]]) -> int:
    """Print the table; 1 if something failed."""
    failed = False
    rows = []
    for name, entry in entries.items():
        outcomes = [entry["ran"].get(engine, {}).get("outcome", "-") for engine in ENGINES]
        failed |= "failed" in entry or "failed" in outcomes
        adds = f"{entry['wheels']}, {entry['bytes'] / 1e6:.0f} MB" if "wheels" in entry else "-"
        rows.append((name, "no" if "failed" in entry else "yes", adds, *outcomes))
    show_table(("project", "locks", "adds", *ENGINES), rows)
    return int(failed)


if __name__ == "__main__":
    run_as_program(main)
