"""What defines a cell, as constraints that pip and uv honour in its image. Pure.

A `pip install` that replaced the framework or a library of its CUDA set would make the tag, the
driver floor and "one CUDA" untrue. So an image fixes what must not change: its frameworks, their
CUDA set and compiler, and the matrix's bounds with their reasons. Everything else is up to the
user.

pip reads `pip.conf` in the environment's own folder, whoever calls it and however the container was
entered; a user's own virtual environment has another. uv has no file for one environment, so it
gets the system's. NVIDIA's NGC images use /etc/pip/constraint.txt as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from wheelyard.contract.paths import VENV
from wheelyard.frameworks.known import is_part, other_plugins
from wheelyard.model import Cell, LockedWheel

CONSTRAINTS = "etc/pip/constraint.txt"
BUILD_CONSTRAINTS = "etc/pip/build-constraint.txt"
PIP_CONFIG = f"{VENV}/pip.conf"
UV_CONFIG = "etc/uv/uv.toml"
_LIFT = "PIP_CONFIG_FILE=/dev/null UV_NO_CONFIG=1"
_ABOUT = f"""\
# What makes this image: pip and uv replace none of it, as tag and driver floor depend on it.
# One installation without: {_LIFT} pip install ...
"""


def constraint_files(cell: Cell, wheels: Iterable[LockedWheel]) -> dict[str, str]:
    """Return path (relative to the image's root) -> text of the files that hold the constraints."""
    wheels = tuple(wheels)
    frameworks = [f"{w.name}=={w.version}" for w in wheels if _is_framework(cell, w)]
    pins = list(_pins(cell, wheels))
    bounds = list(_bounds(cell, pins))
    plain = constraint_lines(cell, wheels)
    return {
        CONSTRAINTS: _ABOUT + "".join(f"{line}\n" for line in [*pins, *bounds]),
        # What is compiled against the framework shall meet this one; bounds on a build's tools
        # would break sdists. uv has it in its settings; pip with it refuses --no-build-isolation,
        # which is how FlashAttention, DeepSpeed and others want to be built.
        BUILD_CONSTRAINTS: _ABOUT + "".join(f"{pin}\n" for pin in frameworks),
        PIP_CONFIG: _ABOUT + f"[global]\nconstraint = /{CONSTRAINTS}\n",
        UV_CONFIG: _ABOUT + "".join(_uv(cell, plain, frameworks)),
    }


def constraint_lines(cell: Cell, wheels: Iterable[LockedWheel]) -> tuple[str, ...]:
    """Return the constraints of an image as plain PEP 508 requirements."""
    pins = list(_pins(cell, wheels))
    return (*pins, *(bound.partition("  # ")[0] for bound in _bounds(cell, pins)))


def environment(python: str, machine: str) -> dict[str, str]:
    """Return the values of PEP 508's markers in an image with this Python, on this machine."""
    return {
        "extra": "",
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }


def _pins(cell: Cell, wheels: Iterable[LockedWheel]) -> Iterator[str]:
    """Yield the exact versions, except those with which the cell overrides upstream's own pins.

    pip has no overrides: with such a pin it could install nothing more that requires the framework.
    """
    replaced = set(map(_name, cell.overrides))
    for wheel in wheels:
        if wheel.name not in replaced and (_is_framework(cell, wheel) or is_cuda(wheel)):
            yield f"{wheel.name}=={wheel.version}"


def _is_framework(cell: Cell, wheel: LockedWheel) -> bool:
    return any(is_part(wheel.name, pin.name) for pin in cell.frameworks)


def _name(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def is_cuda(wheel: LockedWheel) -> bool:
    """Recognise a part of the CUDA set, or the framework's compiler; not NVIDIA's Python tools."""
    if wheel.name.startswith("nvidia-"):
        return not wheel.filename.endswith("-none-any.whl")
    return wheel.name == "cuda-toolkit" or wheel.name.startswith("triton")


def _bounds(cell: Cell, pins: Iterable[str]) -> Iterator[str]:
    pinned = {pin.partition("==")[0] for pin in pins}
    for plugin in (p for pin in cell.frameworks for p in other_plugins(pin.name, cell.cuda)):
        yield f"{plugin}<0  # for another CUDA than this image's; of two, one alone is used"
    for bound, reason in cell.reasons:
        if _name(bound) not in pinned:
            yield f"{bound}  # {reason}"


def _uv(cell: Cell, plain: Iterable[str], frameworks: Iterable[str]) -> Iterator[str]:
    yield _array("constraint-dependencies", plain)
    yield _array("build-constraint-dependencies", frameworks)
    if cell.overrides:
        yield _array("override-dependencies", cell.overrides)


def _array(name: str, lines: Iterable[str]) -> str:
    items = "".join(f"    {json.dumps(line)},\n" for line in lines)
    return f"{name} = [\n{items}]\n"
