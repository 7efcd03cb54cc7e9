"""Which layers an image has, in which order, and what each is made of. Pure.

The order decides what pulling a sibling costs: first what most cells share, the framework late,
tools last. It depends only on the cell's own locks, never on other cells, so that adding an image
to the matrix changes no other image's digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wheelyard.contract.constraints import is_cuda
from wheelyard.frameworks.known import is_part
from wheelyard.layers.layer import FORMAT
from wheelyard.model import Cell, LockedWheel

_GROUPS = 8  # of small wheels on top of a finished image
_OWN_LAYER = 8 << 20  # bytes; a wheel at least this big has its own layer
# Above the toolkit, in this order: what changes more often than it does, and last the compiler
# that PyTorch does without, so that TensorFlow's, JAX's and combined images share all below.
_LATE_CUDA = ("cusparselt", "cudnn", "nccl", "nvshmem")
_NVCC = ("crt", "nvvm", "nvcc")
_LAST_OF_TOOLKIT = ("nvidia-cublas",)  # CUDA 13's: PyTorch moves it alone within one toolkit
_COMPILERS = ("triton",)  # pinned by the framework as tightly as the framework itself


@dataclass(frozen=True, slots=True)
class WheelLayer:
    """The files of one or more wheels."""

    wheels: tuple[LockedWheel, ...]
    python: str

    @property
    def key(self) -> str:
        """The hash of everything that the layer is a function of."""
        return _key("wheels", self.python, [w.sha256 for w in self.wheels])

    @property
    def title(self) -> str:
        """The layer's name for people: in progress and history."""
        return _title(self.wheels)


@dataclass(frozen=True, slots=True)
class BytecodeLayer:
    """The bytecode of one or more wheels."""

    wheels: tuple[LockedWheel, ...]
    python: str

    def key(self, interpreter: str) -> str:
        """Return the hash of what the layer depends on; `interpreter` is Interpreter.identity."""
        return _key("bytecode", self.python, [interpreter, *(w.sha256 for w in self.wheels)])

    @property
    def title(self) -> str:
        """The layer's name for people: in progress and history."""
        return f"bytecode of {_title(self.wheels)}"


# An image's layers between its base and its label layer: one tuple per flavour, lowest first.
Recipe = tuple[tuple[WheelLayer | BytecodeLayer, ...], ...]


def make_recipe(cell: Cell, locks: Sequence[Sequence[LockedWheel]]) -> Recipe:
    """Return the layers for `cell`; `locks` are its flavours' wheels, lowest flavour first.

    A wheel that a lower flavour already holds is left out of the flavours above it.
    """
    seen: set[str] = set()
    stages = []
    frameworks = {pin.name for pin in cell.frameworks}
    for wheels in locks:
        fresh = [w for w in wheels if w.sha256 not in seen]
        seen.update(w.sha256 for w in fresh)
        stages.append(tuple(_stage(fresh, frameworks, cell.python)))
    return tuple(stages)


def added_layers(wheels: Iterable[LockedWheel], python: str) -> list[WheelLayer]:
    """Return the layers of wheels that are put on top of a finished image.

    Each big one has its own, as in the set. Small ones share a few by a hash of their names, so
    that a new version changes an eighth of them.
    """
    groups: dict[int, list[LockedWheel]] = {}
    big = []
    for wheel in _ordered(wheels):
        if wheel.size >= _OWN_LAYER:
            big.append(WheelLayer((wheel,), python))
        else:
            groups.setdefault(_group(wheel), []).append(wheel)
    return [*big, *(WheelLayer(tuple(groups[at]), python) for at in sorted(groups))]


def _group(wheel: LockedWheel) -> int:
    return hashlib.sha256(wheel.name.encode()).digest()[0] % _GROUPS


def _stage(
    wheels: list[LockedWheel], frameworks: set[str], python: str
) -> Iterable[WheelLayer | BytecodeLayer]:
    cuda = [w for w in wheels if w.name.startswith("nvidia-") and is_cuda(w)]
    late = _named(cuda, _LATE_CUDA)
    # devel's compiler has no libraries below it in its stage: all but nvcc is among the small parts
    compiler = _named(cuda, _NVCC if late else _NVCC[-1:])
    early = [w for w in _ordered(cuda) if w not in late and w not in compiler]
    early.sort(key=lambda w: w.name in _LAST_OF_TOOLKIT)
    framework = [
        w for w in wheels if w.name.startswith(_COMPILERS)
        or any(is_part(w.name, name) for name in frameworks)
    ]  # fmt: skip
    packages = [w for w in wheels if w not in cuda and w not in framework]
    for libraries in (early, late, compiler):
        yield from _split(libraries, python)
    for group in (packages, framework):
        yield from _split(_ordered(group), python)
        if group:
            yield BytecodeLayer(tuple(_ordered(group)), python)


def _named(wheels: Iterable[LockedWheel], words: Iterable[str]) -> list[LockedWheel]:
    ordered = _ordered(wheels)
    return [w for word in words for w in ordered if word in w.name]


def _split(wheels: list[LockedWheel], python: str) -> Iterable[WheelLayer]:
    """Yield one layer for all small wheels, by name, then one for each big wheel, in order."""
    small = tuple(w for w in _ordered(wheels) if w.size < _OWN_LAYER)
    if small:
        yield WheelLayer(small, python)
    for wheel in wheels:
        if wheel.size >= _OWN_LAYER:
            yield WheelLayer((wheel,), python)


def _ordered(wheels: Iterable[LockedWheel]) -> list[LockedWheel]:
    return sorted(wheels, key=lambda w: w.name)


def _title(wheels: Sequence[LockedWheel]) -> str:
    if len(wheels) > 2:
        return f"{len(wheels)} wheels ({wheels[0].name} to {wheels[-1].name})"
    return ", ".join(f"{w.name} {w.version}" for w in wheels)


def _key(kind: str, python: str, parts: list[str]) -> str:
    text = json.dumps([FORMAT, kind, python, parts], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
