"""Finds the present addresses of locked wheels; locks contain none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wheelyard.errors import FetchError, LockError
from wheelyard.fetching.wanted import Download
from wheelyard.lock.pylock import wheel_url
from wheelyard.lock.uv import ResolutionRequest, compile_requirements
from wheelyard.model import LockedWheel

if TYPE_CHECKING:
    from packaging.pylock import Package

    from wheelyard.settings import Settings

_RELOCK = "use an index that still has it (--index-url), or lock again: wheelyard lock --upgrade"


def locate(
    wheels: Sequence[LockedWheel],
    python: str,
    settings: Settings,
    indexes: tuple[str, ...] = (),
    explicit: tuple[tuple[str, str], ...] = (),
) -> list[Download]:
    """Return a download for each locked wheel, in their order.

    `indexes` are URLs that precede the default index; `explicit` has those of single names. Among
    all wheels that an index lists for a pinned version, the one with the locked hash is used: a
    better fitting file that was uploaded later changes nothing. Raises FetchError for a file that
    is gone or replaced, or if the index cannot be reached.
    """
    if not wheels:
        return []
    pins = tuple(f"{wheel.name}=={wheel.version}" for wheel in wheels)
    listing = ResolutionRequest(
        requirements=pins,
        python=python,
        platform=None,
        dependencies=False,
        indexes=indexes,
        explicit=explicit,
    )
    try:
        offered = compile_requirements(
            listing, f"the addresses of {len(wheels)} locked wheels", settings
        )
    except LockError as gone:  # a pinned version no longer exists: the index's fault
        raise FetchError(f"{gone}\nor {_RELOCK}") from gone
    return _match_hashes(wheels, offered)


def _match_hashes(wheels: Sequence[LockedWheel], resolved: Sequence[Package]) -> list[Download]:
    """Find each locked wheel's address by its hash; FetchError lists those without one."""
    urls = {
        wheel.hashes["sha256"]: wheel_url(wheel)
        for package in resolved
        for wheel in package.wheels or ()
    }
    missing = [wheel for wheel in wheels if wheel.sha256 not in urls]
    if missing:
        raise FetchError(_gone(missing, {package.name: package for package in resolved}))
    return [
        Download(urls[wheel.sha256], wheel.filename, wheel.sha256, wheel.size) for wheel in wheels
    ]


def _gone(missing: Sequence[LockedWheel], offered: Mapping[str, Package]) -> str:
    lines = []
    for wheel in missing:
        files = (wheel.name in offered and offered[wheel.name].wheels) or ()
        replaced = any(file.filename == wheel.filename for file in files)
        reason = "has another hash in the index" if replaced else "is not there"
        lines.append(f"  {wheel.filename} (sha256:{wheel.sha256}) {reason}\n")
    return f"the index no longer has what the lock pins:\n{''.join(lines)}{_RELOCK}"
