"""The image that a few words mean, brought to the engine, and how it is started."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wheelyard.context import Context
from wheelyard.contract.paths import GID, WORKDIR
from wheelyard.contract.runtimes import GPU_OPTIONS, SHARED_MEMORY, Runtime, best, find_runtimes
from wheelyard.errors import EngineError, SelectionError
from wheelyard.images.build.report import read_report
from wheelyard.model import Cell, Plan
from wheelyard.planning.catalogue import CatalogueEntry, plan_entries
from wheelyard.planning.plan import load_inputs
from wheelyard.planning.selector import select
from wheelyard.servers import machine
from wheelyard.servers.choosing import host_of, read_entries
from wheelyard.servers.pick import Host, Selection, pick, require_known
from wheelyard.servers.pulling import copy_into_podman, pull_image
from wheelyard.system.subprocesses import run


@dataclass(frozen=True, slots=True)
class Start:
    """How one container of an image is started."""

    image: str
    command: tuple[str, ...]  # empty: the image's own
    folder: Path | None  # at `place`; None: what the image has there
    ids: tuple[int, int] | None  # user and group; None: the image's own
    gpus: bool
    ports: tuple[int, ...] = ()  # on loopback, under the same number
    terminal: bool = True  # a person is at it
    rootless: bool = False  # the engine is this user's, not root's
    place: str = f"/{WORKDIR}"


def start_line(runtime: str, start: Start) -> list[str]:
    """Return the command that starts it; `runtime` is a key of GPU_OPTIONS."""
    program = "podman" if runtime == "podman" else "docker"
    line = [program, "run", "--rm", "--interactive", *(["--tty"] if start.terminal else [])]
    if start.gpus:
        line += GPU_OPTIONS[runtime]
    line.append(SHARED_MEMORY)
    if start.ids is not None:
        if program == "podman" and start.rootless:  # the same numbers inside as outside
            line.append("--userns=keep-id")
        line += ["--user", ":".join(map(str, start.ids)), "--group-add", str(GID)]
    if start.folder is not None:
        line += ["--volume", f"{start.folder}:{start.place}"]
    line += [word for port in start.ports for word in ("--publish", f"127.0.0.1:{port}:{port}")]
    return [*line, start.image, *start.command]


def find_runtime(named: str | None) -> Runtime:
    """Return the engine to run with: the named one, else the best that is here.

    Raises EngineError where there is none.
    """
    engine = machine.read_engine()
    runtimes = [
        each
        for each in find_runtimes(engine.facts, machine.read_programs(), cdi=machine.has_cdi())
        if each.name in GPU_OPTIONS and named in (None, each.name.partition("-")[0])
    ]
    runtime = best(runtimes)
    if runtime is None:
        what = f"{named} is not here" if named else "neither a Docker Engine nor podman is here"
        problem = f": {engine.problem}" if engine.problem else ""
        raise EngineError(f"{what}{problem}; install one, or start it (apt install docker.io)")
    return runtime


def uses_gpus(runtime: Runtime, context: Context) -> bool:
    """Tell whether this machine has GPUs that the engine passes on; warn if it cannot."""
    driver = machine.read_gpus().driver
    if driver is None or not driver.gpus:
        return False
    if not runtime.gpus:
        context.reporter.warn(f"without GPUs: {runtime.name} cannot pass them on; {runtime.advice}")
    return runtime.gpus


@dataclass(frozen=True, slots=True)
class Found:
    """The image that was meant."""

    tag: str  # as the engine calls it
    digest: str | None = None  # in the registry
    cell: Cell | None = None  # of the project's matrix, where it can be built


def find_image(
    name: str, selection: Selection, dist: Path, context: Context
) -> tuple[Found, Plan | None]:
    """Return the image that `name` means: a selector of the project, a framework, or a reference.

    Of several that a selector chooses it is the one that `pick` would take for this machine.
    Raises SelectionError or MachineError where there is none.
    """
    settings = context.settings
    is_reference = ":" in name or "/" in name or "@" in name
    if settings.registry is None and (settings.project / "matrix.yaml").is_file():
        _matrix, upstream, plan = load_inputs(settings.project)
        try:
            cells = select(plan, name)
        except SelectionError:
            if is_reference:
                return Found(name), None
            raise
        entries = plan_entries(cells, upstream, read_report(dist))
        entry = _best(entries, selection) if len(cells) > 1 else entries[0]
        cell = next(cell for cell in cells if cell.id == entry.id)
        return Found(cell.tags[0], None, cell), plan
    if settings.registry is None or is_reference:
        return Found(name), None
    entries = read_entries(dist, context)
    exact = [entry for entry in entries if name == entry.id or name in entry.tags]
    entry = exact[0] if exact else _best(entries, Selection(name, flavour=selection.flavour))
    return Found(settings.registry.reference(entry.tags[0]), entry.digest), None


def _best(entries: Sequence[CatalogueEntry], selection: Selection) -> CatalogueEntry:
    driver = machine.read_gpus().driver
    host = Host(None, architecture=platform.machine()) if driver is None else host_of(driver)
    frameworks = dict.fromkeys(entry.framework for entry in entries)
    flavours = {entry.flavour for entry in entries}
    flavour = selection.flavour if selection.flavour in flavours else entries[0].flavour
    framework = selection.framework or (next(iter(frameworks)) if len(frameworks) == 1 else None)
    sought = Selection(framework, flavour=flavour)
    require_known(entries, sought)
    return pick(entries, host, sought).entry


def bring(image: Found, plan: Plan | None, runtime: Runtime, dist: Path, context: Context) -> None:
    """Pull or build the image unless the engine has it."""
    if runtime.name == "podman":
        _to_podman(engine_name(image, runtime), image, plan, dist, context)
        return
    from wheelyard.engines.docker import connect, has_image

    client = connect()
    if client is None:
        raise EngineError("the Docker Engine does not answer any more; start it")
    if not has_image(client, image.tag):
        if image.cell is not None and plan is not None:
            _build(image.cell, plan, dist, context, load=True)
        else:
            pull_image(image.tag, image.digest, "docker", context.settings, context.reporter)


def engine_name(image: Found, runtime: Runtime) -> str:
    """Return what the engine calls the image; podman gives local ones a host's name."""
    return f"localhost/{image.tag}" if runtime.name == "podman" and image.cell else image.tag


def _to_podman(name: str, image: Found, plan: Plan | None, dist: Path, context: Context) -> None:
    if run(["podman", "image", "exists", name], error=None).returncode == 0:
        return
    if image.cell is None or plan is None:
        pull_image(image.tag, image.digest, "podman", context.settings, context.reporter)
        return
    _build(image.cell, plan, dist, context, load=False)
    copy_into_podman(dist, image.tag, name)


def _build(cell: Cell, plan: Plan, dist: Path, context: Context, *, load: bool) -> None:
    from wheelyard.images.build.build import build_images
    from wheelyard.images.build.loading import find_loader
    from wheelyard.images.build.results import Failed

    (result,) = build_images([cell], plan, dist, context, load=find_loader(load, context))
    if isinstance(result, Failed):
        raise result.error
