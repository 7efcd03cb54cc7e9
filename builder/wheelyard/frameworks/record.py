"""The shape of a framework's record, and of what its wheels state."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

CPU = "cpu"  # in place of a CUDA version, for a build without CUDA

Read = Callable[[str], bytes | None]  # a wheel's member by its path; None: the wheel lacks it


@dataclass(frozen=True, slots=True)
class BuildFacts:
    """What a wheel was built for, as it states it itself."""

    cuda: str  # "12.1", "12.5.1"; CPU for a build without CUDA
    cudnn: str | None = None  # "9", where a file inside says it
    architectures: tuple[str, ...] = ()  # "sm_80" for machine code, "compute_90" for PTX


@dataclass(frozen=True, slots=True)
class Stated:
    """A text file in site-packages and a pattern; its groups, joined by dots, are the version."""

    file: str
    pattern: str

    def find(self, text: str) -> str | None:
        """Return the version that the file's text states."""
        match = re.search(self.pattern, text)
        return ".".join(match.groups()) if match else None


@dataclass(frozen=True, slots=True)
class Plugin:
    """A framework's part for one CUDA major, in a distribution of its own."""

    extra: str  # "cuda12": the framework's extra that installs it
    distribution: str  # "jax-cuda12-plugin[with-cuda]": its wheels state what it was built for
    environment: Mapping[str, str] = field(default_factory=dict)  # of every image with it


@dataclass(frozen=True, slots=True)
class Build:
    """A distribution whose wheels state facts: the framework's own, or a plugin of it."""

    name: str  # "pytorch", "jax-cuda12": in the facts
    distribution: str  # "torch", "jax-cuda12-plugin[with-cuda]"
    built: Callable[[Read], BuildFacts]


@dataclass(frozen=True, slots=True)
class Framework:
    """One framework."""

    wheel: str  # "torch": the distribution without extras
    version: tuple[Stated, ...]  # in an image; the first file that states it counts
    built: Callable[[Read], BuildFacts]  # reads a wheel; ValueError says what it lacks
    plugins: Mapping[str, Plugin] = field(default_factory=dict)  # by CUDA major; empty: one build
    parts: str = r"(?!)"  # names of the wheels that are released with it, beside its own
    beside: Mapping[str, str] = field(default_factory=dict)  # environment beside other frameworks
    conda: tuple[str, ...] = ()  # conda's names for it
    image: str = r"(?!)"  # a Dockerfile's `FROM` of upstream: version, and CUDA where it is named
