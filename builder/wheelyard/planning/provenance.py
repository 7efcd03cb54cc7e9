"""Built for, asks for, ships: three answers to "which CUDA is it?", each from its own source.

Built for: the version file inside the wheel. Asks for: the wheel's metadata. Ships: the lock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wheelyard.model import Cell
from wheelyard.planning.facts import CPU, Upstream, for_architecture, release_of

NVIDIA = "nvidia-"  # prefix of all distribution names that are looked up in a lock
# cu11 and cu12 wheels carry the CUDA major in their name; the CUDA runtime's lost it with 13.
RUNTIME = re.compile(r"nvidia-cuda-runtime(-cu\d+)?")
CUDNN = re.compile(r"nvidia-cudnn(-cu\d+)?")


@dataclass(frozen=True, slots=True)
class Versions:
    """CUDA and cuDNN versions as one source states them; "-" if it states none."""

    cuda: str
    cudnn: str

    def __str__(self) -> str:
        return f"{self.cuda} / {self.cudnn}"


@dataclass(frozen=True, slots=True)
class Provenance:
    """The origin of a cell's CUDA and cuDNN; several frameworks are joined by ` + `."""

    built_for: Versions
    asks_for: Versions
    ships: Versions


def provenance(cell: Cell, upstream: Upstream, pins: Mapping[str, str] | None) -> Provenance:
    """Say what a cell's frameworks were built for and require, and what its lock ships."""
    known = for_architecture(upstream, cell.architecture)
    facts = [release_of(known, pin) for pin in cell.frameworks]
    return Provenance(
        Versions(_joined(r.cuda for r in facts), _joined(r.built_cudnn or "-" for r in facts)),
        Versions(
            _joined(r.cuda_requirement[1] if r.cuda != CPU else "-" for r in facts),
            _joined(r.cudnn_requirement[1] if r.cuda != CPU else "-" for r in facts),
        ),
        Versions("-", "-") if pins is None else _shipped(pins),
    )


def _shipped(pins: Mapping[str, str]) -> Versions:
    cuda = [version for name, version in pins.items() if RUNTIME.fullmatch(name)]
    cudnn = [version for name, version in pins.items() if CUDNN.fullmatch(name)]
    return Versions(_joined(cuda) or "-", _joined(cudnn) or "-")


def _joined(values: Iterable[str]) -> str:
    return " + ".join(dict.fromkeys(values))
