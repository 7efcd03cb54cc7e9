"""Versions older than the newest one: which were chosen, and what must be built for the newest.

uv sees wheels alone. Where the newest version has none, or needs something that has none, it takes
an older one without a word, often one of years ago.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import Version

from wheelyard.fetching.transport import make_client
from wheelyard.lock.pylock import first_wheel
from wheelyard.lock.upstream.simpleindex import read_listing
from wheelyard.projects.state import places_of

if TYPE_CHECKING:
    from pathlib import Path

    from packaging.pylock import Package

    from wheelyard.lock.upstream.listing import IndexFile
    from wheelyard.settings import Settings

_TAG = "py30-none-any"  # fits every Python, and is the last that uv prefers


@dataclass(frozen=True, slots=True)
class Older:
    """A distribution that is not locked in its newest version."""

    name: str
    version: str
    newest: str
    why: str  # not the newest
    possible: str | None = None  # the version that there would be with wheels

    def __str__(self) -> str:
        """Say it to the user, with what can be done."""
        said = f"{self.name} {self.version} is locked, not {self.newest}: {self.why}"
        if self.possible is None:
            return said
        choices = f"{self.name}=={self.possible}, or {self.name}=={self.version}"
        return f"{said}\n  To decide it, require {choices}"


def behind(
    found: Mapping[str, Version | None], newest: Mapping[str, str], *, patches: bool = False
) -> dict[str, str]:
    """Return the newest versions of what was found in an older major or minor release.

    With `patches`, an older patch release counts as well.
    """
    return {
        name: newest[name]
        for name, version in sorted(found.items())
        if name in newest
        and version is not None
        and _release(version, patches) < _release(Version(newest[name]), patches)
    }


def is_far(version: Version | None, newest: str) -> bool:
    """Tell whether another major release is the newest; of 0.x, another minor one."""
    return version is not None and _major(version) < _major(Version(newest))


def _release(version: Version, patches: bool) -> tuple[int, ...]:
    patch = (version.micro,) if patches else ()
    return (version.epoch, version.major, version.minor, *patch)


def _major(version: Version) -> tuple[int, int, int]:
    return version.epoch, version.major, 0 if version.major else version.minor


def list_sdists(name: str, settings: Settings) -> list[tuple[Version, IndexFile]]:
    """Return the source distributions of the first index that has any; none if none has."""
    with make_client(settings, 1) as client:
        for index in places_of(canonicalize_name(name), settings):
            found = [
                (version, file)
                for file in read_listing(client, index, canonicalize_name(name)) or ()
                if file.yanked is None and (version := _version(file)) is not None
            ]
            if found:
                return found
    return []


def _version(file: IndexFile) -> Version | None:
    try:
        return parse_sdist_filename(file.filename)[1]
    except InvalidSdistFilename:
        return None


def is_stand_in(package: Package) -> bool:
    """Tell whether uv took a wheel of `write_stand_ins`."""
    return package.archive is None and first_wheel(package).filename.endswith(f"-{_TAG}.whl")


def write_stand_ins(folder: Path, name: str, sdists: Iterable[tuple[Version, IndexFile]]) -> None:
    """Write a wheel without content or dependencies for every source distribution.

    With these, uv says which version would be taken if it had a wheel.
    """
    for version, file in sdists:
        stem = f"{name.replace('-', '_')}-{version}"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        try:
            metadata += f"Requires-Python: {SpecifierSet(file.requires_python or '')}\n"
        except InvalidSpecifier:
            continue
        wheel = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {_TAG}\n"
        files = {"METADATA": metadata, "WHEEL": wheel, "RECORD": ""}
        with zipfile.ZipFile(folder / f"{stem}-{_TAG}.whl", "w") as archive:
            for path, text in files.items():
                archive.writestr(f"{stem}.dist-info/{path}", text)
