"""`python -m tests.benchmark.project`: from a change in a user's project to a pushed image.

A project on an image of the set, changed step by step, by `docker buildx build` and `docker push`
of a well-written Dockerfile (requirements before code, a cache of wheels), and by `wheelyard lock`
and `wheelyard push`. Registry and index are on loopback, so no step waits for the Internet; the
bases are published beforehand. A server that runs the project's first image then pulls the one
with one wheel and one line more; last, the project moves to the base of another patch release of
PyTorch, 2.3.0 after 2.3.1. Bytes are all that crossed loopback, both ways.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from tests.benchmark.bars import Bar, Heading, draw_bars
from tests.benchmark.engines.projects import REPOSITORY
from tests.benchmark.environment import environment
from tests.benchmark.measure import NotMeasuredError, say
from tests.benchmark.place import Place
from tests.benchmark.publication import draw_again, run_as_program
from tests.benchmark.publish import site as bases
from tests.engines import trixie
from tests.engines.daemons import INSTALLED, Kind, client_environment, own_engine, temporary_folder
from tests.peers.island import leave_the_network
from tests.peers.registries import registry
from wheelyard.console.progress import QuietReporter
from wheelyard.console.table import show_table
from wheelyard.context import Context
from wheelyard.fetching.wanted import cached
from wheelyard.lock.lockfile import read_requirements_lock
from wheelyard.model import LockedWheel
from wheelyard.projects.layers import fetch_wheels
from wheelyard.projects.pylock import read_lock
from wheelyard.projects.table import read_project
from wheelyard.settings import Settings, load_settings
from wheelyard.system.textfiles import write_text

RESULT = REPOSITORY / "docs" / "results" / "project.json"
REQUIREMENTS = ("transformers", "datasets", "peft", "fastapi", "opencv-python-headless")
SMALL = "uvicorn"  # the wheel that is added
IMAGES = {"first": "2.3.1", "next": "2.3.0"}  # what the project is based on
NETWORK = Path("/proc/thread-self/net/dev")  # of the network that this thread is in
CODE = "import fastapi\n\napp = fastapi.FastAPI()\nVERSION = {}\n"
DOCKERFILE = """\
FROM {base}
COPY requirements.txt .
RUN --mount=type=cache,target=/home/dev/.cache/pip,uid=1000 \\
    pip install --index-url {index}/simple/ -r requirements.txt
COPY . .
CMD ["python", "-m", "app"]
"""
ENGINES: dict[str, Callable[[Settings], Kind]] = {
    "docker-20.10": lambda _settings: INSTALLED,
    "docker-26.1": trixie.classic,
    "docker-26.1-containerd": trixie.containerd,
}
# Step -> what people wait for, and the share of Docker's time that is wanted. In this order.
STEPS = {
    "empty": ("CI runner with nothing", 1 / 10),
    "wheel": ("one small wheel more", 1 / 8),
    "code": ("one line of code", None),
    "server": ("both pulled by a server", None),
    "fresh": ("first push of base and all", 1 / 8),
    "next": ("another torch patch release", 1 / 10),
}


Commands = dict[str, Callable[[], int]]  # name -> what runs it and returns its peak of memory


@dataclass(frozen=True, slots=True)
class Taken:
    """What one side took for one step."""

    side: str
    step: str
    seconds: float
    loopback_bytes: int
    peak_bytes: int  # resident, of a command and all below it, each process at its peak
    parts: Mapping[str, float]  # command -> seconds


@dataclass(frozen=True, slots=True)
class Site:
    """Everything that both sides use."""

    folder: Path
    settings: Settings
    project: Path  # with the bases' matrix and locks
    tags: Mapping[str, str]  # of the bases, by the words of IMAGES: "pytorch:2.3.1-..."
    dist: Path  # a layout with both
    index: str
    kind: Kind


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 1 if something could not be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmark.project", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--engine", choices=list(ENGINES), default="docker-20.10")
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--sides", nargs="+", choices=("docker", "wheelyard"),
                        default=["wheelyard", "docker"])  # fmt: skip
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--folder", type=Path, help="for 20 GB (default: the cache's folder)")
    parser.add_argument("--draw", action="store_true", help="only draw the plot of --output again")
    args = parser.parse_args(argv)
    if args.draw:
        draw_again(args.output, draw)
        return 0
    settings = load_settings({"project": str(REPOSITORY)})
    taken: list[Taken] = []
    failures: dict[str, str] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder(args.folder or settings.cache_dir))
        machine = environment(Place(REPOSITORY, settings.cache_dir, folder))
        site = prepare(folder, settings, ENGINES[args.engine](settings))
        leave_the_network()  # nobody else's bytes are on this loopback
        site = replace(site, index=stack.enter_context(serving(folder / "index")))
        for side in args.sides:
            try:
                taken += SIDES[side](site, args.steps)
            except (NotMeasuredError, OSError, subprocess.CalledProcessError) as error:
                failures[side] = str(error)
                say(f"{side} was not measured to the end: {error}")
    report(args.output, machine, args.engine, taken, failures)
    return 1 if failures else 0


def prepare(folder: Path, settings: Settings, kind: Kind) -> Site:
    """The bases in a layout, and an index of all wheels: what is not measured."""
    say("the bases")
    set_ = bases.prepare(folder, settings, kind, IMAGES)
    tags = {word: cell.tags[0] for word, cell in set_.cells.items()}
    dist = folder / "dist"
    wheelyard(set_.project, "build", "all", "--no-load", "--output", str(dist))
    say("the project's wheels")
    wanted: dict[str, LockedWheel] = {}
    files: dict[str, Path] = {}
    for word, cell in set_.cells.items():
        project = write_project(folder / f"all-{word}", tags[word], [*REQUIREMENTS, SMALL])
        wheelyard(project, "lock", "--project", str(set_.project))
        lock = read_lock(project / "pylock.toml")
        context = Context(settings, QuietReporter(None))
        files |= fetch_wheels(lock.wheels, read_project(project), cell.python, context)
        wanted |= {one.wheel.sha256: one.wheel for one in lock.wheels}
        for wheel in read_requirements_lock(set_.project / cell.lock).wheels:
            path = cached(settings.cache_dir / "files", wheel.sha256, wheel.filename, wheel.size)
            assert path is not None, wheel.filename
            files[wheel.sha256] = path
            wanted[wheel.sha256] = wheel
    write_index(folder / "index", wanted, files)
    return Site(folder, settings, set_.project, tags, dist, "", kind)


def write_project(folder: Path, base: str, requirements: Sequence[str], line: int = 0) -> Path:
    """Write the project, or change it."""
    folder.mkdir(exist_ok=True)
    (folder / "requirements.txt").write_text("".join(f"{text}\n" for text in requirements))
    (folder / "wheelyard.toml").write_text(
        f'image = "{base}"\nname = "app"\nrequirements = ["requirements.txt"]\n'
        'command = ["python", "-m", "app"]\n'
    )
    (folder / "app.py").write_text(CODE.format(line))
    return folder


def write_index(folder: Path, wheels: Mapping[str, LockedWheel], files: Mapping[str, Path]) -> None:
    """A simple index (PEP 503) with metadata beside the wheels (PEP 658), as PyPI has them."""
    pages: dict[str, list[str]] = {}
    (folder / "files").mkdir(parents=True)
    for sha256, wheel in wheels.items():
        (folder / "files" / wheel.filename).symlink_to(files[sha256])
        metadata = read_metadata(files[sha256])
        (folder / "files" / f"{wheel.filename}.metadata").write_bytes(metadata)
        digest = f"sha256={hashlib.sha256(metadata).hexdigest()}"
        pages.setdefault(canonicalize_name(wheel.name), []).append(
            f'<a href="../../files/{escape(wheel.filename)}#sha256={sha256}" '
            f'data-core-metadata="{digest}">{escape(wheel.filename)}</a>'
        )
    for name, links in pages.items():
        page = folder / "simple" / name / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text(f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>")


def read_metadata(wheel: Path) -> bytes:
    """A wheel's METADATA."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(x for x in archive.namelist() if x.endswith(".dist-info/METADATA"))
        return archive.read(name)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    handler = functools.partial(Handler, directory=str(folder))

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Say nothing: uv leaves when it has read enough."""

    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def wheelyard(folder: Path, *words: str, **environ: str) -> int:
    """Run the program as a user does; its peak of memory in bytes."""
    argv = [sys.executable, "-m", "wheelyard", "--quiet", *words]
    return run(argv, folder, {**os.environ, **environ})


def run(argv: Sequence[str], folder: Path, environ: Mapping[str, str]) -> int:
    """Run a program to its end; return what it and all below it held at most, in bytes.

    The kernel's own figure (getrusage) begins with that of the process which starts it: ours.
    """
    held: dict[int, int] = {}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(argv, cwd=folder, env=dict(environ), stdout=log, stderr=log)
        watcher = threading.Thread(target=watch, args=(process, held))
        watcher.start()
        process.wait()
        watcher.join()
        if process.returncode:
            log.seek(0)
            raise NotMeasuredError(f"{' '.join(argv[:6])}: {log.read()[-800:]}")
    return sum(held.values())


def watch(process: subprocess.Popen[str], held: dict[int, int]) -> None:
    """Note the resident peak of a process and of each below it, until it ends."""
    while process.poll() is None:
        pids = [process.pid]
        for pid in pids:
            with suppress(OSError, StopIteration):
                pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                peak = next(line for line in lines if line.startswith("VmHWM:"))
                held[pid] = int(peak.split()[1]) * 1024
        time.sleep(0.05)


def take(side: str, step: str, commands: Commands) -> Taken:
    """Run a step's commands one after the other."""
    before, parts, peak = received(), {}, 0
    for name, command in commands.items():
        start = time.perf_counter()
        peak = max(peak, command())
        parts[name] = round(time.perf_counter() - start, 3)
    crossed = received() - before
    seconds = round(sum(parts.values()), 3)
    say(f"{side}, {STEPS[step][0]}: {seconds:.2f} s {parts}, {crossed / 1e6:.1f} MB")
    return Taken(side, step, seconds, crossed, peak, parts)


def received() -> int:
    """Bytes that have crossed loopback."""
    lines = NETWORK.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.split()[0] == "lo:")


def changes(project: Path, tags: Mapping[str, str]) -> dict[str, Callable[[], object]]:
    """What is done to the project before each step that pushes where its bases are."""
    more = [*REQUIREMENTS, SMALL]
    return {
        "empty": lambda: write_project(project, tags["first"], REQUIREMENTS),
        "wheel": lambda: write_project(project, tags["first"], more),
        "code": lambda: write_project(project, tags["first"], more, line=1),
        "next": lambda: write_project(project, tags["next"], more, line=1),
    }


def by_wheelyard(site: Site, steps: Sequence[str]) -> Iterator[Taken]:
    """An empty cache, a registry that has the bases."""
    cache = site.folder / "new-cache"
    project = site.folder / "app"
    environ = {"WHEELYARD_CACHE": str(cache), "WHEELYARD_INDEX_URL": f"{site.index}/simple/"}
    with ExitStack() as stack:
        address = stack.enter_context(bases_published(site))
        target = ("--registry", f"http://{address}/team")
        lock = functools.partial(wheelyard, project, "lock", *target, **environ)
        push = functools.partial(wheelyard, project, "push", *target, "--tag=latest", **environ)

        def runner(_: str) -> Commands:
            lock()  # a runner finds the lock in the repository
            shutil.rmtree(cache)
            return {"push": push}

        def first_push(other: str) -> Commands:
            to = ("--registry", f"http://{other}/team", "--output", str(site.dist))
            return {"push": lambda: wheelyard(project, "push", *to, **environ)}

        ways: dict[str, Callable[[str], Commands]] = {
            "empty": runner,
            "wheel": lambda _: {"lock": lock, "push": push},
            "code": lambda _: {"push": push},
            "fresh": first_push,
            "next": lambda _: {"lock": lock, "push": push},
        }
        yield from taken(site, "wheelyard", steps, f"{address}/team/app:latest", project, ways)
    shutil.rmtree(cache)


def by_docker(site: Site, steps: Sequence[str]) -> Iterator[Taken]:
    """An empty engine, a registry that has the bases."""
    project = site.folder / "app-docker"
    with ExitStack() as stack:
        address = stack.enter_context(bases_published(site))
        variables = stack.enter_context(engine(site))
        config = trixie.client_configuration(
            stack.enter_context(temporary_folder(site.folder)), trixie.trixie_root(site.settings)
        )
        variables["DOCKER_CONFIG"] = str(config)
        image = f"{address}/team/app:latest"
        docker = functools.partial(run, folder=project, environ=variables)
        build = functools.partial(
            docker, ["docker", "buildx", "build", "--load", "--network=host", "-t", image, "."]
        )
        push = functools.partial(docker, ["docker", "push", image])

        def built_and_pushed(base: str) -> Commands:
            text = DOCKERFILE.format(base=f"{address}/team/{site.tags[base]}", index=site.index)
            (project / "Dockerfile").write_text(text)
            return {"build": build, "push": push}

        def first_push(other: str) -> Commands:
            name = f"{other}/team/app:latest"
            docker(["docker", "tag", image, name])
            return {"push": lambda: docker(["docker", "push", name])}

        ways: dict[str, Callable[[str], Commands]] = {
            "empty": lambda _: built_and_pushed("first"),
            "wheel": lambda _: built_and_pushed("first"),
            "code": lambda _: built_and_pushed("first"),
            "fresh": first_push,
            "next": lambda _: built_and_pushed("next"),
        }
        yield from taken(site, "docker", steps, image, project, ways)


def taken(
    site: Site, side: str, steps: Sequence[str], image: str, project: Path,
    ways: Mapping[str, Callable[[str], Commands]],
) -> Iterator[Taken]:  # fmt: skip
    """Take the steps in order, and those that others start from.

    A way is given the address of a registry that has nothing, if its step wants one.
    """
    change = changes(project, site.tags)
    pull = functools.partial(run, ["docker", "pull", image], site.folder)
    server: dict[str, str] = {}
    with ExitStack() as stack:
        for step in STEPS:
            if step not in steps and step not in ("empty", "wheel", "code"):
                continue
            if step in change:
                change[step]()
            with empty_registry(site) if step == "fresh" else nullcontext("") as other:
                result = take(
                    side, step,
                    {"pull": lambda: pull(server)} if step == "server" else ways[step](other),
                )  # fmt: skip
            if step in steps:
                yield result
            if step == "server":
                stack.close()
            elif step == "empty" and "server" in steps:
                server.update(stack.enter_context(engine(site)))
                pull(server)


@contextmanager
def engine(site: Site) -> Iterator[dict[str, str]]:
    """Start an engine that has nothing; yield the variables of its clients."""
    with temporary_folder(site.folder) as folder, own_engine(folder, site.kind):
        yield client_environment(folder)


SIDES = {"wheelyard": by_wheelyard, "docker": by_docker}


@contextmanager
def empty_registry(site: Site) -> Iterator[str]:
    """A registry of our own, gone afterwards."""
    with temporary_folder(site.folder) as folder, registry(folder) as address:
        yield address


@contextmanager
def bases_published(site: Site) -> Iterator[str]:
    """A registry that has the bases."""
    with empty_registry(site) as address:
        wheelyard(
            site.project, "push", "all", "--registry", f"http://{address}/team", "--no-attest",
            "--output", str(site.dist),
        )  # fmt: skip
        yield address


def report(
    output: Path, machine: Mapping[str, Any], engine: str, taken: Sequence[Taken],
    failures: Mapping[str, str],
) -> None:  # fmt: skip
    """Write JSON and a page, and print the table."""
    of = {(x.side, x.step): x for x in taken}
    rows = []
    for step, (what, wanted) in STEPS.items():
        ours, theirs = of.get(("wheelyard", step)), of.get(("docker", step))
        if ours is None and theirs is None:
            continue
        rows.append(
            (
                what,
                "-" if theirs is None else f"{theirs.seconds:.1f} s",
                "-" if ours is None else f"{ours.seconds:.2f} s",
                f"1/{theirs.seconds / ours.seconds:.1f}" if ours and theirs else "-",
                "-" if wanted is None else f"1/{1 / wanted:.0f}",
                "-" if theirs is None else f"{theirs.loopback_bytes / 1e6:.0f} MB",
                "-" if ours is None else f"{ours.loopback_bytes / 1e6:.1f} MB",
                "-" if ours is None or step == "server" else f"{ours.peak_bytes / 1e6:.0f} MB",
            )
        )
    columns = (
        "change -> pushed", "Docker", "ours", "ratio", "wanted", "Docker's bytes", "our bytes",
        "our memory",
    )  # fmt: skip
    data = {
        "version": 1,
        "environment": {**machine, "load_after": list(os.getloadavg()), "engine": engine},
        "images": IMAGES,
        "requirements": [*REQUIREMENTS, SMALL],
        "runs": [asdict(x) for x in taken],
        "not_measured": dict(failures),
    }
    write_text(output, json.dumps(data, indent=1) + "\n")
    lines = ["| " + " | ".join(row) + " |" for row in (columns, ["---"] * len(columns), *rows)]
    loads = [f"{load:.1f}" for load in (machine["load_before"][0], os.getloadavg()[0])]
    write_text(
        output.with_suffix(".md"),
        f"# From a project's change to a pushed image\n\n`make bench-project`, {engine}, on "
        f"{machine['cores']} cores ({machine['processor']}); the machine's load was {loads[0]} "
        f"before and {loads[1]} after (above the number of cores, others worked beside).\n\n"
        + "\n".join(lines) + "\n",
    )  # fmt: skip
    draw_again(output, draw)
    show_table(columns, rows)


def draw(report: Mapping[str, Any]) -> str:
    """Both sides of every step as bars."""
    of = {(run["side"], run["step"]): run["seconds"] for run in report["runs"]}
    groups = {}
    for step, (what, _) in STEPS.items():
        theirs = of.get(("docker", step))
        groups[what] = [
            Bar(side, seconds, seconds / theirs if theirs else None, is_reference=side == "docker")
            for side in ("docker", "wheelyard")
            if (seconds := of.get((side, step))) is not None
        ]
    machine = report["environment"]
    heading = Heading(
        "From a change in a project to a pushed image, in seconds",
        f"{machine['engine']}, {machine['cores']} cores, load {machine['load_before'][0]:.1f} "
        "before; beside it, the share of Docker's time",
        "tests.benchmark.project",
        "docs/results/project.json",
    )
    return draw_bars(heading, {what: bars for what, bars in groups.items() if bars})


if __name__ == "__main__":
    run_as_program(main)
