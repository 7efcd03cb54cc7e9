"""pylock.toml (PEP 751), as far as uv's answers need it; read by PyPA's own `packaging.pylock`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import PurePosixPath

from packaging.pylock import Package, PackageArchive, PackageWheel, Pylock, PylockValidationError

from wheelyard.errors import LockError
from wheelyard.model import LockedWheel


def parse_pylock(text: str, *, direct: bool = False) -> tuple[Package, ...]:
    """Read uv's answer; raises LockError for anything that is not a hashed wheel of an index.

    With `direct`, wheels that a requirement names by address or path are accepted as well.
    """
    try:
        lock = Pylock.from_dict(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, PylockValidationError) as error:
        raise LockError(
            f"what uv resolved cannot be used: {error}; images are made of an index's wheels alone"
        ) from error
    for package in lock.packages:
        if package.archive is None:
            _require_hashed_wheels(package)
        elif not direct or "sha256" not in package.archive.hashes:
            raise LockError(
                f"{package.name}: the requirement names a file (`@ ...`); images of the matrix are "
                "made of an index's wheels, so name the version alone"
            )
    return tuple(lock.packages)


def preferences_pylock(pins: Iterable[tuple[str, str]]) -> str:
    """Return a pylock.toml that says no more than name and version: what uv tries first.

    Of several versions of a name, the first that is possible is taken.
    """
    head = 'lock-version = "1.0"\ncreated-by = "wheelyard"\n'
    return head + "".join(
        f'\n[[packages]]\nname = "{name}"\nversion = "{version}"\n'
        for name, version in sorted(pins, key=lambda pin: pin[0])
    )


def first_wheel(package: Package) -> PackageWheel:
    """Return the wheel that fits best; `parse_pylock` has seen to it that there is one."""
    return (package.wheels or ())[0]


def locked_wheel(package: Package, size: int) -> LockedWheel:
    """Pin a package by its first wheel, which has `size` bytes."""
    wheel = first_wheel(package)
    return LockedWheel(
        package.name, str(package.version), wheel.filename, wheel.hashes["sha256"], size
    )


def wheel_url(wheel: PackageWheel | PackageArchive) -> str:
    """Return a wheel's address; an index on this disk has paths."""
    return wheel.url or PurePosixPath(wheel.path or "").as_uri()


def _require_hashed_wheels(package: Package) -> None:
    if not package.wheels or package.version is None:
        raise LockError(
            f"{package.name}: the index has no wheel for it; images are made of wheels alone,"
            " so constrain it to a version that has one"
        )
    for wheel in package.wheels:
        if "sha256" not in wheel.hashes:
            raise LockError(
                f"{package.name}: the index gives no SHA-256 for {wheel.filename};"
                " use an index that does (--index-url)"
            )
