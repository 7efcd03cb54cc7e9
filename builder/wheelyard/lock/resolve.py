"""Resolves a cell's requirements to exact wheels with uv, and checks the result."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from wheelyard.errors import FetchError, LockError
from wheelyard.lock.changes import versions
from wheelyard.lock.inputs import wheel_platform
from wheelyard.lock.pylock import first_wheel, locked_wheel, wheel_url
from wheelyard.lock.uv import ResolutionRequest, compile_requirements
from wheelyard.model import Cell, LockedWheel, RequirementsLock
from wheelyard.planning.facts import CPU, NONE
from wheelyard.planning.provenance import CUDNN, RUNTIME
from wheelyard.planning.shipped import TOOLKIT
from wheelyard.system.urls import redact
from wheelyard.versions import leads

if TYPE_CHECKING:
    from packaging.pylock import Package, PackageArchive, PackageWheel

    from wheelyard.settings import Settings

# Distributions that are numbered as their toolkit is; cuBLAS and its like go their own ways.
_TOOLKIT = re.compile(r"nvidia-(cuda-(crt|cupti|nvcc|nvrtc)|nvjitlink|nvtx|nvvm)(-cu\d+)?")
_LISTED = re.compile(r"nvidia-(cublas|cufft|cufile|curand|cusolver|cusparse|npp|nvjpeg)(-cu\d+)?")


def resolve_cell(
    cell: Cell,
    inputs: str,
    parent: RequirementsLock | None,
    preferred: Mapping[str, str],
    settings: Settings,
) -> RequirementsLock:
    """Resolve a cell; keep the parent's pins, and those `preferred` (name -> version) if possible.

    `inputs` is the digest that goes into the lock. Raises LockError if there is no solution or the
    result does not have the cell's CUDA and cuDNN, FetchError if the index fails.
    """
    request = _resolution_request(cell, parent, preferred, index_urls(cell, settings))
    resolved = compile_requirements(request, cell.id, settings)
    inherited = {} if parent is None else {wheel.name: wheel for wheel in parent.wheels}
    wheels = sorted(
        (_locked(package, inherited, settings) for package in resolved),
        key=lambda wheel: wheel.name,
    )
    check_resolution(cell, wheels)
    _check_parent(cell, parent, wheels)
    return RequirementsLock(cell.id, inputs, tuple(wheels), _newest_upload(resolved))


def _newest_upload(resolved: Iterable[Package]) -> str | None:
    """Return when the newest of the files was uploaded to the index, in UTC; None if unknown."""
    dates = [first_wheel(package).upload_time for package in resolved]
    known = [date for date in dates if date is not None and date.tzinfo is not None]
    return max(known).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if known else None


def index_urls(cell: Cell, settings: Settings) -> tuple[str, ...]:
    """Return the indexes that a cell's wheels come from before the default one."""
    return () if cell.index is None else (settings.index(cell.index),)


def _resolution_request(
    cell: Cell,
    parent: RequirementsLock | None,
    preferred: Mapping[str, str],
    indexes: tuple[str, ...] = (),
) -> ResolutionRequest:
    """Return what uv must resolve for a cell.

    A cuDNN with which the cell overrides upstream's is an override, not a constraint: the
    framework's own pin names another version, and a constraint would contradict it.
    """
    return ResolutionRequest(
        requirements=cell.requirements,
        python=cell.python,
        platform=wheel_platform(cell.base),
        constraints=(
            *cell.constraints,
            *(f"{name}=={version}" for name, version in versions(parent).items()),
        ),
        overrides=cell.overrides,
        preferences=tuple(preferred.items()),
        indexes=indexes,
    )


def _locked(package: Package, inherited: dict[str, LockedWheel], settings: Settings) -> LockedWheel:
    """Use the parent's very file for the same version: an index may add other files."""
    same = inherited.get(package.name)
    if same is not None and same.version == str(package.version):
        return same
    return locked_wheel(package, wheel_size(first_wheel(package), settings))


def wheel_size(wheel: PackageWheel | PackageArchive, settings: Settings) -> int:
    """Return the file's size; an index of HTML pages does not list it, but its server does."""
    if wheel.size is not None:
        return wheel.size
    url = wheel_url(wheel)
    from wheelyard.fetching.replies import (  # imported here: only such an index needs a client,
        Interrupted,
        Refused,
    )
    from wheelyard.fetching.transport import make_client, open_body  # which is slow to import

    try:
        with make_client(settings, 1) as client, open_body(client, url, 0) as body:
            if body.total is not None:
                return body.total
    except (Interrupted, Refused) as problem:
        raise FetchError(f"{redact(url)}: {problem}") from problem
    raise FetchError(
        f"{redact(url)}: neither the index nor the server states the size of the file;"
        " use another index (--index-url)"
    )


def _check_parent(
    cell: Cell, parent: RequirementsLock | None, wheels: Sequence[LockedWheel]
) -> None:
    held = set(wheels)
    lost = [wheel for wheel in (() if parent is None else parent.wheels) if wheel not in held]
    if lost:
        listed = ", ".join(f"{wheel.name} {wheel.version}" for wheel in lost)
        raise LockError(
            f"{cell.id} extends {cell.parent}, but does not contain its {listed};"
            " a flavour must require everything that its parent requires (matrix.yaml)"
        )


def check_resolution(cell: Cell, wheels: Sequence[LockedWheel]) -> None:
    """Raise LockError, with both values, if the wheels do not match the cell."""
    problems = [
        *_frameworks(cell, wheels),
        *_component("CUDA", cell.cuda, RUNTIME, wheels),
        *_component("cuDNN", cell.cudnn, CUDNN, wheels),
        *(_strays(cell, wheels) if cell.policy != "upstream-latest" else ()),
        *(_unheld(cell, wheels) if cell.policy == "follow-cuda" else ()),
    ]
    if problems:
        raise LockError(
            f"{cell.id}: the resolution does not match the cell:\n"
            + "".join(f"  {problem}\n" for problem in problems)
            + "correct the cell, or add a constraint to it, in matrix.yaml"
        )


def _frameworks(cell: Cell, wheels: Sequence[LockedWheel]) -> Iterator[str]:
    versions = {wheel.name: wheel.version for wheel in wheels}
    for pin in cell.frameworks:
        wanted = pin.version if pin.local is None else f"{pin.version}+{pin.local}"
        resolved = versions.get(pin.wheel)
        if resolved != wanted:
            yield f"{pin.wheel}: the cell says {wanted}, but {resolved} was resolved"


def _strays(cell: Cell, wheels: Sequence[LockedWheel]) -> Iterator[str]:
    """Find toolkit parts, such as nvJitLink, whose versions do not match the toolkit's."""
    for wheel in wheels:
        if _TOOLKIT.fullmatch(wheel.name) and not leads(cell.cuda, wheel.version):
            yield f"{wheel.name}: the cell's CUDA is {cell.cuda}, but {wheel.version} was resolved"


def _unheld(cell: Cell, wheels: Sequence[LockedWheel]) -> Iterator[str]:
    """Find libraries that only the toolkit's list of its parts could hold to the cell's CUDA.

    In an image of several frameworks another one may pin them.
    """
    asked = map(Requirement, cell.requirements)
    listed = {extra for x in asked if x.name == TOOLKIT for extra in x.extras}
    for wheel in wheels:
        match = _LISTED.fullmatch(wheel.name)
        if match and match[1] not in listed and len(cell.frameworks) == 1:
            yield (
                f"{wheel.name}: nothing holds {wheel.version} to CUDA {cell.cuda}; "
                f"add {TOOLKIT}[{match[1]}] to the framework's tools"
            )


def _component(
    title: str, wanted: str, names: re.Pattern[str], wheels: Sequence[LockedWheel]
) -> Iterator[str]:
    """Require exactly one CUDA runtime (or cuDNN), which must match the cell's version."""
    matching = [wheel for wheel in wheels if names.fullmatch(wheel.name)]
    if wanted in (CPU, NONE):
        yield from (
            f"{title}: the cell has none, but {wheel.name} was resolved" for wheel in matching
        )
        return
    if len(matching) != 1:
        listed = ", ".join(f"{wheel.name} {wheel.version}" for wheel in matching) or "none"
        yield (
            f"{title}: the cell says {wanted}, but {len(matching)} distributions were resolved: "
            f"{listed}"
        )
    for wheel in matching:
        if not leads(wanted, wheel.version):
            yield (
                f"{title}: the cell says {wanted}, but {wheel.version} ({wheel.name}) was resolved"
            )
