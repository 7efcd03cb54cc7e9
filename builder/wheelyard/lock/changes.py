"""The changes of a lock run: pins added, removed, or moved to another version or file."""

from __future__ import annotations

from collections.abc import Mapping
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


def pins(lock: RequirementsLock | PackageLock | None) -> dict[str, tuple[str, str]]:
    """Return name -> (version, sha256) of what a lock pins; empty without a lock."""
    pinned = lock.packages if isinstance(lock, PackageLock) else lock.wheels if lock else ()
    return {one.name: (one.version, one.sha256) for one in pinned}


def versions(lock: RequirementsLock | PackageLock | None) -> dict[str, str]:
    """Return name -> version of what a lock pins; empty without a lock."""
    return {name: version for name, (version, _) in pins(lock).items()}


def pin_changes(
    before: Mapping[str, tuple[str, str]], after: Mapping[str, tuple[str, str]]
) -> tuple[PinChange, ...]:
    """Compare two sets of pins; the same version in another file counts as changed."""
    changes = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if old and new and old[0] == new[0]:
            old, new = (f"{old[0]} ({old[1][:12]})", ""), (f"{new[0]} ({new[1][:12]})", "")
        changes.append(PinChange(name, old and old[0], new and new[0]))
    return tuple(changes)
