"""Pre-releases in a resolution: taken where there is nothing else, and never silently.

uv's own choice is between two evils. Without pre-releases, what depends on a project that has no
other versions (OpenTelemetry's) falls back to releases of years ago. With them, a project whose
releases are source only (DeepSpeed) is taken from its oldest development wheels. So they are
allowed, and the index is asked whether there are releases after all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from wheelyard.errors import LockError
from wheelyard.fetching.transport import make_client
from wheelyard.lock.pylock import first_wheel
from wheelyard.lock.upstream.simpleindex import read_listing
from wheelyard.projects.requirements import wheel_advice
from wheelyard.projects.state import places_of

if TYPE_CHECKING:
    import httpx
    from packaging.pylock import Package
    from packaging.version import Version

    from wheelyard.settings import Settings


class NoReleaseError(LockError):
    """Raised for a pre-release in the place of releases, of which none has a wheel."""

    def __init__(self, message: str, newest: str) -> None:
        super().__init__(message)
        self.newest = newest  # "name==version" of the newest release


def check_prereleases(
    found: Mapping[str, Package],
    requirements: Iterable[Requirement],
    devel: str,
    settings: Settings,
) -> list[str]:
    """Say which pre-releases were taken; raise NoReleaseError for one in the place of releases.

    Those that `requirements` name, and those from a folder, are the user's own choice. `devel` is
    the base's devel image, in which a wheel can be built.
    """
    named = {canonicalize_name(one.name) for one in requirements if one.specifier.prereleases}
    taken = [
        package
        for name, package in sorted(found.items())
        if package.version is not None
        and package.version.is_prerelease
        and name not in named
        and package.archive is None
        and (first_wheel(package).url or "").startswith("http")
    ]
    if not taken:
        return []
    with make_client(settings, 1) as client:
        return [
            _judged(package, places_of(package.name, settings), devel, client) for package in taken
        ]


def _judged(package: Package, indexes: Iterable[str], devel: str, client: httpx.Client) -> str:
    for index in indexes:
        files = read_listing(client, index, package.name)
        if files is None:
            continue
        versions = (_version(file.filename) for file in files if file.yanked is None)
        released = [one for one in versions if one is not None and not one.is_prerelease]
        if released:
            newest = f"{package.name}=={max(released)}"
            raise NoReleaseError(
                f"{package.name}: its releases have no wheel that fits, only the pre-release "
                f"{package.version} has; to have that one, name it: "
                f"{package.name}=={package.version}. Otherwise, {wheel_advice(newest, devel)}",
                newest,
            )
        break
    return f"{package.name} {package.version} is a pre-release: it has no other versions"


def _version(filename: str) -> Version | None:
    try:
        if filename.endswith(".whl"):
            return parse_wheel_filename(filename)[1]
        return parse_sdist_filename(filename)[1]
    except (InvalidSdistFilename, InvalidWheelFilename):
        return None
