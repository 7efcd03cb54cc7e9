"""Chooses an image for a machine: the candidates, the choice, and how it is run."""

from __future__ import annotations

import platform
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.architecture import ARCHITECTURES, DEFAULT
from wheelyard.console.amounts import amount
from wheelyard.contract.runtimes import Runtime, best, find_runtimes, run_line
from wheelyard.errors import MachineError, SignatureError, UsageError
from wheelyard.images.build.report import read_report
from wheelyard.oci.address import pinned
from wheelyard.planning.catalogue import CatalogueEntry, plan_entries, pull_bytes
from wheelyard.planning.facts import CPU
from wheelyard.planning.plan import load_inputs
from wheelyard.publish.attest.signatures import require_entry
from wheelyard.publish.catalogue import require_catalogue
from wheelyard.registry.client import open_registry
from wheelyard.servers import machine
from wheelyard.servers.machine import LocalEngine
from wheelyard.servers.pick import (
    Choice,
    Host,
    Selection,
    check_driver,
    parse_gpu,
    pick,
    require_known,
)

if TYPE_CHECKING:
    from wheelyard.context import Context
    from wheelyard.publish.attest.trust import Trust
    from wheelyard.selfcheck.gpu.driver import Driver


@dataclass(frozen=True, slots=True)
class PickRequest:
    """What is requested: images, requirements, and the machine."""

    selection: Selection
    dist: Path  # built images, whose sizes and digests are added to the matrix's entries
    driver: str | None = None  # NVIDIA driver of another machine
    gpus: tuple[str, ...] = ()  # its compute capabilities: "sm_90"
    runtime: str | None = None  # its container runtime
    architecture: str = DEFAULT.name  # of its processor

    @property
    def elsewhere(self) -> bool:
        """Whether another machine is described."""
        return self.driver is not None or bool(self.gpus)


def choose(request: PickRequest, trust: Trust | None, context: Context) -> dict[str, Any]:
    """Choose an image; return id, image, cuda, reason and other facts, for JSON.

    Raises MachineError if no image runs, SignatureError if `trust` is not satisfied.
    """
    if context.settings.registry is None:
        context.mention_packaged()
    entries = read_entries(request.dist, context, trust)
    require_known(entries, request.selection)
    host = _host(request, cpu=any(entry.cuda == CPU for entry in entries))
    choice = pick(entries, host, request.selection)
    if trust is not None:
        require_entry_signed(choice.entry, trust, context)
    engine = LocalEngine(None) if request.elsewhere else machine.read_engine()
    runtime = _runtime(request, engine)
    chosen = _as_json(choice, host, engine, runtime, context, signed=trust is not None)
    is_pulled = context.settings.registry is not None and chosen["pull_bytes"] != 0
    if is_pulled and not request.elsewhere:
        chosen["notes"] += _lazily(machine.read_programs())
    return chosen


def require_entry_signed(entry: CatalogueEntry, trust: Trust, context: Context) -> None:
    """Raise SignatureError unless the exact digest that will be pulled is signed."""
    address = context.settings.registry
    if address is None:
        raise SignatureError(f"{entry.id} is not in a registry, so it has no signatures")
    with open_registry(address, context.settings, context.reporter) as registry:
        require_entry(registry, entry, trust)


def _host(request: PickRequest, *, cpu: bool) -> Host:
    """Describe the given machine, or else this one; `cpu`: there are CPU-only images."""
    if request.elsewhere:
        driver = None if request.driver is None else check_driver(request.driver)
        machine_name = ARCHITECTURES[request.architecture].machine
        return Host(driver, tuple(map(parse_gpu, request.gpus)), machine_name)
    if request.selection.cuda == CPU:
        return Host(None, architecture=platform.machine())
    seen = machine.read_gpus()
    if seen.driver is None:
        without = "add --cuda cpu" if cpu else "every image runs; `wheelyard plan` lists them"
        raise MachineError(
            f"{seen.problem}; to pick for another machine, add --driver 550.54.14 --gpu sm_90; "
            f"without a GPU {without}"
        )
    return host_of(seen.driver)


def host_of(driver: Driver) -> Host:
    """Describe this machine; unknown facts do not exclude an image."""
    known = dict.fromkeys(gpu.capability for gpu in driver.gpus if gpu.capability)
    return Host(driver.version or None, tuple(known), platform.machine())


def read_entries(
    dist: Path, context: Context, trust: Trust | None = None
) -> tuple[CatalogueEntry, ...]:
    """Return the catalogue of the given registry, or else the project's matrix.

    Raises RegistryError if the registry has none: an image of the matrix may not exist there.
    """
    settings = context.settings
    if settings.registry is not None:
        with open_registry(settings.registry, settings, context.reporter) as registry:
            return require_catalogue(registry, trust)
    if not (settings.project / "matrix.yaml").is_file():
        raise UsageError(
            "no matrix.yaml here and no catalogue: name the registry (--registry HOST/PREFIX) or "
            "the project (--project FOLDER)"
        )
    _matrix, upstream, plan = load_inputs(settings.project)
    return plan_entries(plan.cells, upstream, read_report(dist.absolute()))


def _runtime(request: PickRequest, engine: LocalEngine) -> Runtime:
    if request.runtime is not None:
        return Runtime(request.runtime, gpus=True)
    if request.elsewhere:
        return Runtime("docker", gpus=True)
    runtime = best(find_runtimes(engine.facts, machine.read_programs(), cdi=machine.has_cdi()))
    return runtime or Runtime("docker", gpus=False, advice="install Docker, podman or apptainer")


def _as_json(
    choice: Choice,
    host: Host,
    engine: LocalEngine,
    runtime: Runtime,
    context: Context,
    *,
    signed: bool,
) -> dict[str, Any]:
    """Return the choice for JSON; a signed image is named by its digest, as a tag may move."""
    entry, address = choice.entry, context.settings.registry
    tag = entry.tags[0] if address is None else address.reference(entry.tags[0])
    image = pinned(tag, entry.digest) if signed and entry.digest else tag
    size = pull_bytes(entry, engine.layers)
    return {
        "id": entry.id,
        "image": image,
        "tag": tag,
        "cuda": entry.cuda,
        "reason": choice.reason,
        "framework": entry.framework,
        "framework_version": entry.framework_version,
        "python": entry.python,
        "digest": entry.digest,
        "driver": host.driver,
        "gpus": list(host.gpus),
        "runtime": runtime.name,
        # Neither in a registry nor in the engine: it must be built before it can run.
        "build": f"wheelyard build {entry.id}" if address is None and size != 0 else None,
        "run": run_line(runtime.name, image),
        "pull_bytes": size,
        "image_bytes": pull_bytes(entry, ()),
        "notes": _notes(entry.unpacked, size, engine, runtime),
        "passed_over": [{"id": name, "reason": why} for name, why in choice.passed_over],
    }


def _lazily(programs: Collection[str]) -> list[str]:
    """Name what starts an image here before it has arrived."""
    return [
        f"if it was pushed with --compression estargz it starts before it has arrived: {line}"
        for program, line in machine.LAZY.items()
        if program in programs
    ]


def _notes(
    unpacked: int | None, size: int | None, engine: LocalEngine, runtime: Runtime
) -> list[str]:
    notes = [] if runtime.gpus else [f"{runtime.name} cannot pass on GPUs: {runtime.advice}"]
    if engine.problem is not None:
        notes.append(engine.problem)
    needed = (unpacked or 0) + (size or 0)
    if size and engine.free is not None and engine.free < needed:
        notes.append(
            f"the disk is too small: the image needs up to {amount(needed, 'bytes')}, "
            f"{amount(engine.free, 'bytes')} are free; `docker system prune` makes room"
        )
    return notes
