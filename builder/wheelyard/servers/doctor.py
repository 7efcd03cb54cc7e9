"""Diagnoses a machine, for a purpose, and says how to fix it. Pure: `machine.py` reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from wheelyard.architecture import ARCHITECTURES, Architecture, of_machine
from wheelyard.console.amounts import amount
from wheelyard.contract.runtimes import best, find_runtimes
from wheelyard.planning.drivers import newest_major
from wheelyard.servers.machine import LAZY, Machine
from wheelyard.servers.pick import at_least, code_name, unknown_to_driver
from wheelyard.system.tools import TOOLS

if TYPE_CHECKING:
    from wheelyard.selfcheck.gpu.driver import Gpu

State = Literal["ok", "note", "wrong"]
Topic = Literal["build", "run", "gpu"]
TOPICS: tuple[Topic, ...] = ("build", "run", "gpu")

_LEAST_CACHE = 10_000_000_000  # bytes: one image, its wheels and its layers
_GOOD_CACHE = 40_000_000_000
_LEAST_ENGINE = 10_000_000_000  # bytes: one image, packed and unpacked


@dataclass(frozen=True, slots=True)
class Line:
    """The result of one check."""

    topic: Topic
    name: str
    state: State
    seen: str
    fix: str | None = None


def diagnose(machine: Machine, wanted: tuple[Topic, ...]) -> tuple[Line, ...]:
    """Return a line for every check of the topics; a missing optional part is a note.

    A topic that was requested explicitly turns its missing parts into errors: `doctor --for gpu` on
    a machine without a driver.
    """
    strict = wanted != TOPICS
    return tuple(
        Line(line.topic, line.name, "wrong", line.seen, line.fix)
        if strict and line.state == "note" and line.name in _REQUIRED
        else line
        for topic in wanted
        for line in _CHECKS[topic](machine)
    )


_REQUIRED = ("container runtime", "driver", "GPU")


def _build(machine: Machine) -> Iterator[Line]:
    here = of_machine(machine.architecture)
    if here is None:
        fix = "build on Linux x86_64 or aarch64: the images have wheels for these"
        yield Line("build", "architecture", "wrong", machine.architecture, fix)
    yield from map(_tool, machine.missing_tools)
    if not machine.missing_tools:
        needed = (name for name, tool in TOOLS.items() if not tool.optional)
        yield Line("build", "tools", "ok", ", ".join(needed))
    for other in ARCHITECTURES.values():
        if here is not None and other is not here:
            yield _emulator(machine, other)
    yield _privileges(machine)
    yield _space("build", f"cache {machine.cache}", machine.cache_free, _LEAST_CACHE, _GOOD_CACHE,
                 "free space, run `wheelyard clean`, or choose another folder: "
                 "--cache-dir")  # fmt: skip
    proxies = ", ".join(machine.proxies) or "none"
    yield Line("build", "proxies", "ok", proxies)
    yield _outcome("build", "CA", machine.ca_problem, "the system's certificates",
                   "install ca-certificates, or pass your CA: --ca-bundle FILE")  # fmt: skip
    asked = "answers" if machine.online else "not asked"
    yield _outcome("build", "index", machine.index_problem, asked,
                   "see --index-url, --ca-bundle and HTTPS_PROXY")  # fmt: skip
    yield _outcome("build", "registry", machine.registry_problem,
                   asked if machine.has_registry else "not set",
                   "see --registry, --ca-bundle and `wheelyard login`")  # fmt: skip


def _tool(name: str) -> Line:
    tool = TOOLS[name]
    return Line("build", name, "wrong", "not installed", f"apt-get install {tool.package}")


def _emulator(machine: Machine, other: Architecture) -> Line:
    """Say whether bases of another architecture can be made."""
    name = f"bases for {other.name}"
    if other.name in machine.emulates:
        return Line("build", name, "ok", "by qemu, in a namespace of its own")
    package = TOOLS[f"qemu-{other.machine}-static"].package
    return Line("build", name, "note", "qemu is not installed", f"apt-get install {package}")


def _privileges(machine: Machine) -> Line:
    if machine.root or machine.user_namespaces:
        seen = "root" if machine.root else "user namespaces"
        return Line("build", "privileges", "ok", seen)
    fix = (
        "run `wheelyard build` once as root (the base is cached), or allow user namespaces: "
        "sysctl kernel.unprivileged_userns_clone=1"
    )
    return Line("build", "privileges", "note", "an ordinary user without user namespaces", fix)


def _space(topic: Topic, name: str, free: int | None, least: int, good: int, fix: str) -> Line:
    if free is None:
        return Line(topic, name, "note", "free space is unknown")
    seen = f"{amount(free, 'bytes')} free"
    if free < least:
        return Line(topic, name, "wrong", seen, f"{fix} (at least {amount(least, 'bytes')})")
    if free < good:
        return Line(topic, name, "note", seen, f"several images need {amount(good, 'bytes')}")
    return Line(topic, name, "ok", seen)


def _outcome(topic: Topic, name: str, problem: str | None, good: str, fix: str) -> Line:
    if problem is None:
        return Line(topic, name, "ok", good)
    return Line(topic, name, "wrong", problem.splitlines()[0], fix)


def _run(machine: Machine) -> Iterator[Line]:
    yield Line("run", "kernel", "ok", machine.kernel)
    if of_machine(machine.architecture) is None:
        fix = "the images are for x86_64 and aarch64: run them there"
        yield Line("run", "architecture", "wrong", machine.architecture, fix)
    if not machine.overlay:
        fix = "modprobe overlay; without it engines copy every layer"
        yield Line("run", "overlayfs", "note", "not in /proc/filesystems", fix)
    engine = machine.engine
    if engine.problem is not None:
        yield Line("run", "Docker", "wrong", engine.problem, "start it, or correct DOCKER_HOST")
    if engine.facts is not None:
        yield Line("run", "Docker", "ok", engine.facts.version)
        yield _space("run", f"images in {engine.facts.root}", engine.free, _LEAST_ENGINE,
                     _LEAST_ENGINE, "free space: docker system prune")  # fmt: skip
    others = [r.name for r in find_runtimes(None, machine.programs, cdi=machine.cdi)]
    if others:
        yield Line("run", "other runtimes", "ok", ", ".join(others))
    for program in sorted(LAZY.keys() & machine.programs):
        if program in machine.lazily:
            seen = f"{program}: images of `push --compression estargz` start unfinished"
            yield Line("run", "lazy pulls", "ok", seen)
        else:
            seen = f"{program} is installed; no configuration names its snapshotter"
            yield Line("run", "lazy pulls", "note", seen, f"docs/servers.md; {LAZY[program]}")
    if engine.facts is None and engine.problem is None and not others:
        fix = "install docker, podman, apptainer or enroot"
        yield Line("run", "container runtime", "note", "none", fix)


def _gpu(machine: Machine) -> Iterator[Line]:
    driver = machine.gpus.driver
    if driver is None:
        state: State = "wrong" if machine.gpus.broken else "note"
        fix = "install NVIDIA's driver on the host" if state == "note" else None
        yield Line("gpu", "driver", state, machine.gpus.problem or "none", fix)
        return
    version = driver.version or "version unknown"
    yield Line("gpu", "driver", "ok", f"{version} (CUDA {driver.cuda or 'unknown'})")
    for remark in driver.remarks:
        yield Line("gpu", "nvidia-smi", "note", remark, "run nvidia-smi on the host")
    major, floor = newest_major()
    if driver.version and not at_least(driver.version, floor):
        fix = f"for images with CUDA {major}: driver {floor} or newer"
        yield Line("gpu", f"CUDA {major}", "note", f"driver {driver.version}", fix)
    if not driver.gpus:
        yield Line("gpu", "GPU", "note", "none is shown", "check nvidia-smi and MIG")
    for at, gpu in enumerate(driver.gpus):
        yield _card(at, gpu, driver.version)
    yield _toolkit(machine)


def _card(at: int, gpu: Gpu, driver: str) -> Line:
    memory = "memory unknown" if gpu.memory is None else f"{gpu.memory} MiB"
    kind = code_name(gpu.capability) if gpu.capability else "compute capability unknown"
    problem = unknown_to_driver(gpu.capability, driver or None)
    seen = f"{gpu.name}, {memory}, {kind}"
    return Line("gpu", f"GPU {at}", "wrong" if problem else "ok", seen, problem)


def _toolkit(machine: Machine) -> Line:
    runtimes = find_runtimes(machine.engine.facts, machine.programs, cdi=machine.cdi)
    chosen = best(runtimes)
    if chosen is None:
        return Line("gpu", "GPUs in containers", "note", "no container runtime is installed")
    if chosen.gpus:
        return Line("gpu", "GPUs in containers", "ok", f"by {chosen.name}")
    seen = f"{chosen.name} cannot pass them on"
    return Line("gpu", "GPUs in containers", "wrong", seen, chosen.advice)


_CHECKS: dict[Topic, Callable[[Machine], Iterator[Line]]] = {
    "build": _build,
    "run": _run,
    "gpu": _gpu,
}
