"""Chooses the best image for a machine, and says why. Pure: the machine was read elsewhere.

Source of the rules: CUDA Compatibility guide (minor-version compatibility, which does not cover
code that the driver compiles from PTX); figures in data/drivers.json.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wheelyard.architecture import ARCHITECTURES, DEFAULT, of_machine
from wheelyard.errors import MachineError, SelectionError, UsageError, did_you_mean
from wheelyard.planning.drivers import driver_floor, generation_floor
from wheelyard.planning.facts import CPU
from wheelyard.selfcheck.gpu.judge import has_code_for
from wheelyard.versions import in_order, leads, order

if TYPE_CHECKING:
    from wheelyard.planning.catalogue import CatalogueEntry

_GPU = re.compile(r"(?:sm_?|compute_)?(\d{1,2})\.?(\d)[a-z]?")


@dataclass(frozen=True, slots=True)
class Host:
    """The facts that decide which image runs; None: unknown, does not exclude an image."""

    driver: str | None  # "535.104.05"; its first two components will do
    gpus: tuple[str, ...] = ()  # compute capabilities: "9.0"
    architecture: str = DEFAULT.machine  # as `uname -m` prints it


@dataclass(frozen=True, slots=True)
class Selection:
    """The requested image; None: the best there is."""

    framework: str | None = None  # "pytorch", "pytorch-2.3", "pytorch+tensorflow"
    cuda: str | None = None
    python: str | None = None
    flavour: str = "runtime"


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen image, why, and the rejected ones: id and reason."""

    entry: CatalogueEntry
    reason: str
    passed_over: tuple[tuple[str, str], ...]


def parse_gpu(text: str) -> str:
    """Parse `sm_90`, `90`, `9.0` or `compute_90` as the capability "9.0"; raise UsageError."""
    match = _GPU.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"--gpu {text}: write the compute capability as sm_90 or 9.0; "
            "`nvidia-smi --query-gpu=compute_cap --format=csv` prints it there"
        )
    return f"{int(match[1])}.{match[2]}"


def code_name(gpu: str) -> str:
    """Name the machine code of a compute capability: sm_90 of "9.0"."""
    return f"sm_{gpu.replace('.', '')}"


def check_driver(text: str) -> str:
    """Check a driver's version as nvidia-smi prints it; raise UsageError."""
    if not re.fullmatch(r"\d+(\.\d+){1,2}", text):
        raise UsageError(f"--driver {text}: write it as nvidia-smi does, such as 550.54.14")
    return text


def pick(entries: Sequence[CatalogueEntry], host: Host, selection: Selection) -> Choice:
    """Return the newest image that runs; raise MachineError with the condition that fails."""
    entries = _for_machine(entries, host.architecture)
    too_new = filter(None, (unknown_to_driver(gpu, host.driver) for gpu in host.gpus))
    if problem := next(too_new, None):
        raise MachineError(problem)
    wanted = sorted(_wanted(entries, selection), key=_rank, reverse=True)
    passed: list[tuple[str, str]] = []
    for entry in wanted:
        problem = obstacle(entry, host)
        if problem is None:
            return Choice(entry, _reason(entry, host, passed), tuple(passed))
        passed.append((entry.id, problem))
    if not passed:
        where = "" if host.architecture == DEFAULT.machine else f" for {host.architecture}"
        raise MachineError(f"no image{where} has all of this: {_told(selection)}")
    reasons = list(dict.fromkeys(reason for _, reason in passed))
    raise MachineError("no image runs on this machine:" + "".join(f"\n  {r}" for r in reasons[:5]))


def require_known(entries: Sequence[CatalogueEntry], selection: Selection) -> None:
    """Raise SelectionError, with the words that exist, for one that holds for no image at all."""
    asked = (selection.framework or "").lower()
    frameworks = {entry.framework for entry in entries}
    if "+" not in asked and (name := asked.partition("-")[0]) in frameworks:
        versions = {entry.framework_version for entry in entries if entry.framework == name}
        frameworks = {name, *(f"{name}-{version}" for version in versions)}
    for option, word, known in (
        ("--framework", "" if "+" in asked else asked, frameworks),
        ("--cuda", selection.cuda, {entry.cuda for entry in entries}),
        ("--python", selection.python, {entry.python for entry in entries}),
        ("--flavour", selection.flavour, {entry.flavour for entry in entries}),
    ):
        if word and known and not any(leads(word, there) for there in known):
            # For a version there is no "did you mean": 12.8 looks like 11.8, and is another one.
            sought = word if word.isalpha() else ""
            hint = did_you_mean(sought, in_order(known), "there are")
            raise SelectionError(f"no image has {option} {word}; {hint}")


def _for_machine(entries: Sequence[CatalogueEntry], machine: str) -> list[CatalogueEntry]:
    """Return the images for a machine, as `uname -m` calls it; MachineError if there are none."""
    here = of_machine(machine)
    fitting = [entry for entry in entries if here and entry.architecture == here.name]
    if fitting or not entries:
        return fitting
    there = dict.fromkeys(entry.architecture for entry in entries)
    told = ", ".join(
        f"{ARCHITECTURES[x].machine} ({x})" if x in ARCHITECTURES else x for x in there
    )
    raise MachineError(
        f"the images are for {told}, this machine is {machine}: it would end in `exec format "
        "error`; for another machine: --driver 550.54.14 --gpu sm_90"
    )


def unknown_to_driver(gpu: str, driver: str | None) -> str | None:
    """Say why no image runs on a GPU: the driver is older than its generation; else None."""
    floor = generation_floor(gpu)
    if driver is None or floor is None or at_least(driver, floor[1]):
        return None
    return (
        f"{code_name(gpu)} needs driver {floor[1]} or newer, which came with CUDA "
        f"{floor[0]}, the first that knows it; the machine has {driver}: update the driver"
    )


def obstacle(entry: CatalogueEntry, host: Host) -> str | None:
    """Say why an image does not run there; None if it does."""
    if entry.cuda == CPU:
        return None
    floor = driver_floor(entry.cuda)
    if host.driver is not None and not at_least(host.driver, floor.minimum):
        major = entry.cuda.partition(".")[0]
        return f"CUDA {major} needs driver {floor.minimum} or newer, the machine has {host.driver}"
    for gpu in host.gpus:
        for architectures in entry.architectures:
            problem = _code_problem(entry, gpu, architectures, host.driver)
            if problem is not None:
                return problem
    return None


def _code_problem(
    entry: CatalogueEntry, gpu: str, architectures: Sequence[str], driver: str | None
) -> str | None:
    """Check the code: machine code needs a driver of the CUDA major, PTX one of its own CUDA."""
    if not architectures:  # upstream does not state it: the image is not excluded
        return None
    name = code_name(gpu)
    if has_code_for(gpu, [one for one in architectures if one.startswith("sm_")]):
        return None
    if not has_code_for(gpu, architectures):
        return f"{named(entry)} has no code for {name}: it was built for {', '.join(architectures)}"
    native = driver_floor(entry.cuda).native
    if driver is None or native is None or at_least(driver, native):
        return None
    return (
        f"{named(entry)} has only PTX for {name}, which the driver compiles: that is outside "
        f"minor-version compatibility, so CUDA {entry.cuda} needs driver {native} there, the "
        f"machine has {driver}"
    )


def at_least(driver: str, floor: str) -> bool:
    """Compare as far as `driver` is written: 525.60 stands for every 525.60.x."""
    given = driver.split(".")
    return [*map(int, given)] >= [*map(int, floor.split(".")[: len(given)])]


def _wanted(entries: Iterable[CatalogueEntry], selection: Selection) -> list[CatalogueEntry]:
    entries = [entry for entry in entries if _matches(entry, selection)]
    if selection.framework is None and entries:
        first = _default_framework(entries)
        entries = [entry for entry in entries if entry.framework == first]
    return entries


def _default_framework(entries: Sequence[CatalogueEntry]) -> str:
    """Return the framework with most images; combined images must be requested."""
    names = [entry.framework for entry in entries if "+" not in entry.framework]
    names = names or [entry.framework for entry in entries]
    return max(dict.fromkeys(names), key=names.count)


def _matches(entry: CatalogueEntry, selection: Selection) -> bool:
    return (
        entry.flavour == selection.flavour
        and (selection.python is None or entry.python == selection.python)
        and (selection.cuda is None or leads(selection.cuda, entry.cuda))
        and (selection.cuda is not None or entry.cuda != CPU)
        and not entry.special
        and (selection.framework is None or _is_framework(entry, selection.framework))
    )


def _is_framework(entry: CatalogueEntry, asked: str) -> bool:
    """Match a framework: `pytorch` alone, `pytorch-2.3` for 2.3.x; `+` joins several."""
    asked_for = [part.partition("-") for part in asked.lower().split("+")]
    names, versions = entry.framework.split("+"), entry.framework_version.split("+")
    return names == [name for name, _, _ in asked_for] and all(
        not version or leads(version, there)
        for (_, _, version), there in zip(asked_for, versions, strict=True)
    )


def _rank(entry: CatalogueEntry) -> tuple[object, ...]:
    """Order by newest framework, then newest CUDA, then ownership of the short tags."""
    versions = tuple(order(version) for version in entry.framework_version.split("+"))
    cuda = order("0" if entry.cuda == CPU else entry.cuda)
    return versions, cuda, len(entry.tags), order(entry.python)


def _reason(entry: CatalogueEntry, host: Host, passed: Sequence[tuple[str, str]]) -> str:
    parts = [f"{named(entry)} is the newest that runs here"]
    if entry.cuda != CPU and host.driver is not None:
        parts.append(_by_driver(entry.cuda, host.driver))
    if host.gpus and any(entry.architectures):
        names = ", ".join(map(code_name, dict.fromkeys(host.gpus)))
        parts.append(f"it has code for {names}")
    parts += list(dict.fromkeys(reason for _, reason in passed))[:2]
    return "; ".join(parts)


def _by_driver(cuda: str, driver: str) -> str:
    native, major = driver_floor(cuda).native, cuda.partition(".")[0]
    if native is not None and at_least(driver, native):
        return f"driver {driver} runs CUDA {cuda} natively"
    came = f" (its own driver is {native})" if native else ""
    return f"driver {driver} runs CUDA {major}.x by minor-version compatibility{came}"


def named(entry: CatalogueEntry) -> str:
    """Name an image for people: `pytorch 2.3.1 with CUDA 12.1`."""
    pairs = zip(entry.framework.split("+"), entry.framework_version.split("+"), strict=True)
    cuda = "for the CPU" if entry.cuda == CPU else f"with CUDA {entry.cuda}"
    return f"{' + '.join(f'{name} {version}' for name, version in pairs)} {cuda}"


def _told(selection: Selection) -> str:
    asked = {
        "framework": selection.framework, "CUDA": selection.cuda, "Python": selection.python,
        "flavour": selection.flavour,
    }  # fmt: skip
    return ", ".join(f"{name} {value}" for name, value in asked.items() if value)
