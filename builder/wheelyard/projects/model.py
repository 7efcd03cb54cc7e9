"""The data that a project's stages hand to each other: base image and lock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from wheelyard.architecture import ARCHITECTURES, DEFAULT
from wheelyard.model import LockedDeb, LockedWheel

BUILT = "wheels"  # folder of a project that keeps the wheels built of sources
LOCK = PurePosixPath("pylock.toml")  # beside the project's table (PEP 751)


@dataclass(frozen=True, slots=True)
class BaseImage:
    """An image of the set, as a registry, a layout or the matrix describes it."""

    reference: str  # "pytorch:2.3.1-cuda12.1-cudnn8.9-py3.11-runtime", below the registry's prefix
    digest: str  # of its manifest; "" where only the matrix was read
    manifest: dict[str, Any]
    config: dict[str, Any]
    wheels: tuple[LockedWheel, ...]  # everything that is installed in its environment
    constraints: tuple[str, ...]  # PEP 508: what makes the cell, and must stay
    overrides: tuple[str, ...] = ()  # PEP 508: pins with which the cell replaces upstream's own
    python: str = "3.11"
    platform: str = "x86_64-manylinux_2_36"  # uv's name of the wheels that its glibc runs

    @property
    def machine(self) -> str:
        """The machine that it runs on, as markers and wheels name it: "aarch64"."""
        return self.platform.partition("-")[0]

    @property
    def devel(self) -> str:
        """The tag of its devel image for the same machine; its own, if it is that."""
        ends = (f"-{name}" for name in ARCHITECTURES)
        end = next((end for end in ends if self.reference.endswith(end)), "")
        stem = self.reference.removesuffix(end).removesuffix("-devel")
        return f"{stem}-devel{end}"

    @property
    def repository(self) -> str:
        """The repository that holds its blobs, below the registry's prefix."""
        return self.reference.partition(":")[0]


@dataclass(frozen=True, slots=True)
class ProjectWheel:
    """A wheel that the project needs, and where it is from."""

    wheel: LockedWheel
    url: str | None = None  # of the file: an index's, or the user's own; None: the index has it
    path: str | None = None  # relative to the project, for a wheel that lies there
    source: str | None = None  # what it was built of: a requirement, or an archive's name
    revision: str | None = None  # of the source: "sha256:...", "git:...", "tree:..."


@dataclass(frozen=True, slots=True)
class DebianLock:
    """The Debian packages that a project adds to its base."""

    status: str  # sha256 hex of the base's dpkg status, on which they were resolved
    date: str  # "20261128T021501Z": the archives had all of them then
    packages: tuple[LockedDeb, ...]  # sorted by name; without those of the base


@dataclass(frozen=True, slots=True)
class ProjectLock:
    """A read `pylock.toml`: what the project needs, in relation to one base image."""

    base: str  # BaseImage.reference
    base_digest: str  # "" where the base was read from the matrix
    contents: str  # sha256 hex of what the base installs: see `base_contents`
    inputs: str  # sha256 hex of all that was resolved: table, requirements, base
    wheels: tuple[ProjectWheel, ...]  # all that the project needs, sorted by name
    # In `wheels`, but with another version in the base: those of the base are removed.
    shadowed: tuple[LockedWheel, ...] = ()
    python: str = "3.11"  # the base's
    machine: str = DEFAULT.machine  # the base's
    debian: DebianLock | None = None

    def added(self, base: BaseImage) -> tuple[ProjectWheel, ...]:
        """Return what the base does not have in this version."""
        there = {(wheel.name, wheel.version) for wheel in base.wheels}
        return tuple(w for w in self.wheels if (w.wheel.name, w.wheel.version) not in there)
