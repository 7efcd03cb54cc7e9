"""The data that stages hand to each other: frozen, typed, without behaviour beyond naming."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

from packaging.utils import canonicalize_name

from wheelyard.architecture import DEFAULT


@dataclass(frozen=True, slots=True)
class FrameworkPin:
    """One framework at one version, e.g. PyTorch 2.3.1 from the distribution `torch`."""

    name: str  # "pytorch"
    version: str  # "2.3.1"
    distribution: str  # "torch"
    local: str | None = None  # "cu118": the build from a separate index
    build: str | None = None  # "jax-cuda12": whose facts count; None: those of `name`

    @property
    def wheel(self) -> str:
        """The normalized name in a lock, without extras (`tensorflow[and-cuda]`)."""
        return canonicalize_name(self.distribution.partition("[")[0])


@dataclass(frozen=True, slots=True)
class Base:
    """A base image: where its root file system comes from and which Python it holds."""

    name: str  # "bookworm"
    suite: str  # Debian suite the root file system is made of
    python: str  # "3.11", the system interpreter of that suite
    image: str | None = None  # "name@sha256:...": a registry's image in place of wheelyard's own
    architecture: str = DEFAULT.name  # "arm64"

    @property
    def full_name(self) -> str:
        """The name with the architecture, where that is not the default: "bookworm-arm64"."""
        return (
            self.name if self.architecture == DEFAULT.name else f"{self.name}-{self.architecture}"
        )


@dataclass(frozen=True, slots=True)
class Flavour:
    """What a flavour adds: Debian packages and Python tools, its ancestors' included."""

    name: str  # "devel"
    extends: str | None  # "runtime": the flavour whose layers lie below
    packages: tuple[str, ...]  # Debian package names, sorted
    tools: tuple[str, ...]  # PEP 508 requirements, sorted
    root: str | None = None  # the lowest flavour below it; None: it is the lowest


@dataclass(frozen=True, slots=True)
class Cell:
    """One image of the matrix."""

    id: str  # "pytorch-2.3.1-cuda12.1-cudnn8.9-py3.11-runtime"
    frameworks: tuple[FrameworkPin, ...]
    cuda: str  # "12.1"
    cudnn: str  # "8.9"
    python: str  # "3.11"
    flavour: Flavour
    base: Base
    requirements: tuple[str, ...]  # PEP 508: frameworks and the flavour's tools
    constraints: tuple[str, ...]  # PEP 508: bounds that upstream does not state
    parent: str | None  # id of the cell whose lock this one extends (the `extends` flavour)
    tags: tuple[str, ...]  # the full tag first, then the aliases this cell owns
    default_base: bool  # False: the base is part of id and tags
    policy: str = "match-build"  # how requirements that leave a range are met
    overrides: tuple[str, ...] = ()  # PEP 508: pins that replace upstream's own
    built_for: tuple[tuple[str, str], ...] = ()  # framework -> its build's CUDA, where another
    index: str | None = None  # name of the index that has the build; None: the default one
    reasons: tuple[tuple[str, str], ...] = ()  # of `constraints`, those of the matrix -> why
    shared_tags: tuple[str, ...] = ()  # of an index with the images for other architectures
    about: tuple[tuple[str, str], ...] = ()  # OCI label, without its prefix -> what it says

    @property
    def architecture(self) -> str:
        """The processors that it runs on: "amd64"."""
        return self.base.architecture

    @property
    def sibling(self) -> str:
        """The id of the same image for the default architecture; its own, if it is for that."""
        return self.id.removesuffix(f"-{self.architecture}")

    @property
    def framework(self) -> str:
        """Framework name; several are joined by `+`."""
        return "+".join(pin.name for pin in self.frameworks)

    @property
    def framework_version(self) -> str:
        """Framework version; several are joined by `+`, in the order of `framework`."""
        return "+".join(pin.version for pin in self.frameworks)

    @property
    def repository(self) -> str:
        """The repository that all tags are of, below a registry's prefix."""
        return self.tags[0].partition(":")[0]

    @property
    def folder(self) -> PurePosixPath:
        """The image's folder, relative to the project: its lock and its Dockerfile."""
        return PurePosixPath("images", self.id)

    @property
    def lock(self) -> PurePosixPath:
        """The requirements lock, relative to the project."""
        return self.folder / "requirements.lock"

    @property
    def base_lock(self) -> PurePosixPath:
        """The Debian package lock of base and flavour, relative to the project."""
        return PurePosixPath("images", "bases", f"{self.base.full_name}-{self.flavour.name}.lock")


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A combination of the axes that is not an image, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """Every image of the matrix and every excluded combination."""

    cells: tuple[Cell, ...]
    frameworks: frozenset[str]  # every name that ids may have
    find_excluded: Callable[[], tuple[Exclusion, ...]] = field(compare=False, repr=False)

    @cached_property
    def excluded(self) -> tuple[Exclusion, ...]:
        """The excluded combinations; tens of thousands, so they are found when they are needed."""
        return self.find_excluded()


@dataclass(frozen=True, slots=True)
class LockedWheel:
    """One line of a requirements lock: the one wheel file that the image installs."""

    name: str  # normalized distribution name
    version: str
    filename: str
    sha256: str  # hex
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class LockedDeb:
    """One line of a base's package lock."""

    name: str
    version: str
    architecture: str  # "amd64", "arm64" or "all"
    sha256: str  # hex
    size: int  # bytes
    archive: str  # "debian" or "debian-security": which archive's pool
    path: str  # "pool/main/a/apt/apt_2.6.1_amd64.deb"


@dataclass(frozen=True, slots=True)
class RequirementsLock:
    """A parsed `requirements.lock`."""

    cell_id: str
    inputs: str  # sha256 hex of what was resolved: requirements, constraints, python, platform
    wheels: tuple[LockedWheel, ...]  # sorted by name
    newest: str | None = None  # when the index got the newest of them: "2026-11-20T08:15:00Z"


@dataclass(frozen=True, slots=True)
class PackageLock:
    """A parsed Debian package lock."""

    base: str
    flavour: str
    suite: str
    inputs: str  # sha256 hex of the package names that were resolved
    packages: tuple[LockedDeb, ...]  # sorted by name
    date: str | None = None  # "20261128T021501Z": the archives had all of them then

    @property
    def architecture(self) -> str:
        """The processors that the packages are for: "amd64"."""
        own = (deb.architecture for deb in self.packages if deb.architecture != "all")
        return next(own, DEFAULT.name)
