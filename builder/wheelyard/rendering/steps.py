"""What a rendered Dockerfile does, step by step, and which steps images share. Pure.

The groups are those of `assemble`, in its order: a sibling image that has the same CUDA set then
has the same first steps, and a builder's cache runs them once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from wheelyard.contract.exclusions import is_trimmed, path_rules
from wheelyard.contract.paths import GID, GROUP, UID, USER
from wheelyard.contract.recipe import BytecodeLayer, WheelLayer, make_recipe
from wheelyard.contract.users import SCRIPTS, home_folders
from wheelyard.model import Cell, LockedDeb, LockedWheel, PackageLock, RequirementsLock

_CUDNN = "cudnn"
CONTRACT = {  # of a base
    "user": USER, "uid": UID, "group": GROUP, "gid": GID, "home_folders": home_folders(),
    "scripts": SCRIPTS,
}  # fmt: skip
Wheels = tuple[LockedWheel, ...]


@dataclass(frozen=True, slots=True)
class WheelStep:
    """Install wheels: `plain` ones unchanged, then `compiled` ones and their bytecode."""

    stage: str  # its name in the multi-stage variant
    title: str
    plain: Wheels
    compiled: Wheels
    kind: Literal["wheels"] = "wheels"

    @property
    def wheels(self) -> Wheels:
        """All wheels, in the order of their installation."""
        return (*self.plain, *self.compiled)

    @property
    def parts(self) -> tuple[tuple[str, Wheels], ...]:
        """Name and wheels of each list that is installed separately; the last one decides."""
        named = (("cuda", self.plain), ("wheels", self.compiled))
        return tuple((name, wheels) for name, wheels in named if wheels)

    @property
    def size(self) -> int:
        """Bytes of all wheels."""
        return sum(wheel.size for wheel in self.wheels)


@dataclass(frozen=True, slots=True)
class PackageStep:
    """Install Debian packages on top of those of a lower flavour.

    With `rules`, dpkg's rules for what is left out change, and packages that they had trimmed are
    installed again. `exact`: every other package is removed.
    """

    stage: str
    title: str
    packages: tuple[LockedDeb, ...]
    rules: tuple[str, ...] = ()
    exact: bool = False
    kind: Literal["packages"] = "packages"


Step = WheelStep | PackageStep


@dataclass(frozen=True, slots=True)
class Locks:
    """One flavour's locks; an image has one of these for every flavour it consists of."""

    wheels: RequirementsLock
    packages: PackageLock


def make_steps(cell: Cell, locks: Sequence[Locks]) -> tuple[Step, ...]:
    """Return the steps between base and configuration; `locks` has the lowest flavour first."""
    recipe = make_recipe(cell, [lock.wheels.wheels for lock in locks])
    added = [_split(stage) for stage in recipe]
    steps: list[Step] = [*_lowest(*added[0], cell)]
    for below, lock, wheels in zip(locks, locks[1:], added[1:], strict=False):
        steps += _further(lock.packages, below.packages, *wheels)
    return tuple(steps)


def _split(stage: Sequence[WheelLayer | BytecodeLayer]) -> tuple[Wheels, Wheels]:
    """Split a flavour's wheels into those without and with bytecode, in the layers' order."""
    with_bytecode = {w for layer in stage if isinstance(layer, BytecodeLayer) for w in layer.wheels}
    wheels = [w for layer in stage if isinstance(layer, WheelLayer) for w in layer.wheels]
    plain = tuple(wheel for wheel in wheels if wheel not in with_bytecode)
    return plain, tuple(wheel for wheel in wheels if wheel in with_bytecode)


def _lowest(plain: Wheels, compiled: Wheels, cell: Cell) -> Iterator[WheelStep]:
    """Return CUDA, cuDNN, and everything above in one step: its parts are unpacked in parallel."""
    at = next((i for i, wheel in enumerate(plain) if _CUDNN in wheel.name), None)
    if at is not None:
        if plain[:at]:
            yield WheelStep("cuda", f"CUDA {cell.cuda}", plain[:at], ())
        yield WheelStep("cudnn", f"cuDNN {cell.cudnn}", plain[at : at + 1], ())
        plain = plain[at + 1 :]
    yield WheelStep("framework", f"{cell.framework} {cell.framework_version}", plain, compiled)


def _further(
    lock: PackageLock, below: PackageLock, plain: Wheels, compiled: Wheels
) -> Iterator[Step]:
    there = {(deb.name, deb.version) for deb in below.packages}
    rules = path_rules(lock) if path_rules(lock) != path_rules(below) else ()
    debs = tuple(
        deb
        for deb in lock.packages
        if (deb.name, deb.version) not in there or (rules and is_trimmed(deb.name))
    )
    if debs:
        title = f"Debian packages of {lock.flavour}"
        yield PackageStep(f"{lock.flavour}-packages", title, debs, rules)
    if plain or compiled:
        yield WheelStep(f"{lock.flavour}-tools", f"tools of {lock.flavour}", plain, compiled)


def chain(base: str, texts: Iterable[str]) -> list[str]:
    """Return a key (SHA-256 hex) for each step: the same base and the same steps up to it."""
    start = hashlib.sha256(base.encode()).hexdigest()
    keys = accumulate(
        texts,
        lambda key, text: hashlib.sha256(f"{key}\n{text}".encode()).hexdigest(),
        initial=start,
    )
    return list(keys)[1:]
