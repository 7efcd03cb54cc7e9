"""The changes of a lock run: pins added, removed, or moved to another version or file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from wheelyard.model import PackageLock, RequirementsLock


@dataclass(frozen=True, slots=True)
class PinChange:
    """One distribution or Debian package before and after; None: absent."""

    name: str
    before: str | None
    after: str | None

    @property
    def kind(self) -> str:
        """`added`, `removed` or `changed`."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"


@dataclass(frozen=True, slots=True)
class LockChange:
    """One resolved lock: the number of its pins, and those that changed."""

    path: PurePosixPath  # relative to the project
    pins: int
    written: bool  # False: the file was already like this
    created: bool  # True: there was no lock to compare with
    changes: tuple[PinChange, ...]


def requirements_pins(lock: RequirementsLock | None) -> dict[str, tuple[str, str]]:
    """Return name -> (version, sha256)."""
    wheels = () if lock is None else lock.wheels
    return {wheel.name: (wheel.version, wheel.sha256) for wheel in wheels}


def package_pins(lock: PackageLock | None) -> dict[str, tuple[str, str]]:
    """Return name -> (version, sha256)."""
    packages = () if lock is None else lock.packages
    return {deb.name: (deb.version, deb.sha256) for deb in packages}


def pin_changes(
    before: Mapping[str, tuple[str, str]], after: Mapping[str, tuple[str, str]]
) -> tuple[PinChange, ...]:
    """Compare two sets of pins; the same version in another file counts as changed."""
    return tuple(_changes(before, after))


def _changes(
    before: Mapping[str, tuple[str, str]], after: Mapping[str, tuple[str, str]]
) -> Iterable[PinChange]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if old and new and old[0] == new[0]:
            yield PinChange(name, f"{old[0]} ({old[1][:12]})", f"{new[0]} ({new[1][:12]})")
        else:
            yield PinChange(name, old and old[0], new and new[0])
