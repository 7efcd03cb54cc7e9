"""Resolves a cell's requirements to exact wheels with uv, and checks the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING

from wheelyard.errors import FetchError, LockError
from wheelyard.lock.changes import versions
from wheelyard.lock.check import check_resolution
from wheelyard.lock.inputs import wheel_platform
from wheelyard.lock.pylock import first_wheel, locked_wheel, wheel_url
from wheelyard.lock.uv import ResolutionRequest, compile_requirements
from wheelyard.model import Cell, LockedWheel, RequirementsLock
from wheelyard.system.urls import redact

if TYPE_CHECKING:
    from packaging.pylock import Package, PackageArchive, PackageWheel

    from wheelyard.settings import Settings


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
