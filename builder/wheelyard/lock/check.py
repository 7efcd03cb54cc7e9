"""Checks that a resolution has the cell's frameworks, CUDA and cuDNN."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from wheelyard.errors import LockError
from wheelyard.model import Cell, LockedWheel
from wheelyard.planning.facts import CPU, NONE
from wheelyard.versions import leads

# cu11 and cu12 wheels carry the CUDA major in their name; the CUDA runtime's lost it with 13.
_RUNTIME = re.compile(r"nvidia-cuda-runtime(-cu\d+)?")
# Distributions that are numbered as their toolkit is; cuBLAS and its like go their own ways.
_TOOLKIT = re.compile(r"nvidia-(cuda-(crt|cupti|nvcc|nvrtc)|nvjitlink|nvtx|nvvm)(-cu\d+)?")
_CUDNN = re.compile(r"nvidia-cudnn(-cu\d+)?")


def check_resolution(cell: Cell, wheels: Sequence[LockedWheel]) -> None:
    """Raise LockError, with both values, if the wheels do not match the cell."""
    problems = [
        *_frameworks(cell, wheels),
        *_component("CUDA", cell.cuda, _RUNTIME, wheels),
        *_component("cuDNN", cell.cudnn, _CUDNN, wheels),
        *(_strays(cell, wheels) if cell.policy != "upstream-latest" else ()),
    ]
    if problems:
        raise LockError(
            f"{cell.id}: the resolution does not match the cell:\n"
            + "".join(f"  {problem}\n" for problem in problems)
            + "correct the cell, or add a constraint to it, in matrix.yaml"
        )


def _frameworks(cell: Cell, wheels: Sequence[LockedWheel]) -> Iterator[str]:
    versions = {wheel.name: wheel.version for wheel in wheels}
    for pin in cell.frameworks:
        wanted = pin.version if pin.local is None else f"{pin.version}+{pin.local}"
        resolved = versions.get(pin.wheel)
        if resolved != wanted:
            yield f"{pin.wheel}: the cell says {wanted}, but {resolved} was resolved"


def _strays(cell: Cell, wheels: Sequence[LockedWheel]) -> Iterator[str]:
    """Find toolkit parts, such as nvJitLink, whose versions do not match the toolkit's."""
    for wheel in wheels:
        if _TOOLKIT.fullmatch(wheel.name) and not leads(cell.cuda, wheel.version):
            yield f"{wheel.name}: the cell's CUDA is {cell.cuda}, but {wheel.version} was resolved"


def _component(
    title: str, wanted: str, names: re.Pattern[str], wheels: Sequence[LockedWheel]
) -> Iterator[str]:
    """Require exactly one CUDA runtime (or cuDNN), which must match the cell's version."""
    matching = [wheel for wheel in wheels if names.fullmatch(wheel.name)]
    if wanted in (CPU, NONE):
        yield from (
            f"{title}: the cell has none, but {wheel.name} was resolved" for wheel in matching
        )
        return
    if len(matching) != 1:
        listed = ", ".join(f"{wheel.name} {wheel.version}" for wheel in matching) or "none"
        yield (
            f"{title}: the cell says {wanted}, but {len(matching)} distributions were resolved: "
            f"{listed}"
        )
    for wheel in matching:
        if not leads(wanted, wheel.version):
            yield (
                f"{title}: the cell says {wanted}, but {wheel.version} ({wheel.name}) was resolved"
            )
