"""The work of a worker process: one layer, from files on disk to a blob in scratch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.contract.exclusions import is_compiled
from wheelyard.errors import BaseImageError, WheelError
from wheelyard.images.assemble.accounts import empty_environment
from wheelyard.images.assemble.bytecode import Interpreter, Module, compile_wheel
from wheelyard.layers.errors import LayersError
from wheelyard.layers.layer import Layer, LayerWriter
from wheelyard.layers.wheels import WheelInput, write_bytecode, write_layer

if TYPE_CHECKING:
    from wheelyard.images.assemble.roots import Root
    from wheelyard.layers.install import Target

_COMPILED_MAX = 1 << 20  # bytes of a module; compiling may take 700 times its size in memory


@dataclass(frozen=True, slots=True)
class WheelJob:
    """Make a layer of wheels, or with `interpreter` of their bytecode, at `scratch`."""

    key: str
    title: str
    wheels: tuple[WheelInput, ...]
    python: str
    scratch: Path
    interpreter: Interpreter | None = None
    weight: int = 0  # estimated work; the heaviest job starts first
    threaded: bool = False  # hash on a second core: there are fewer jobs than workers
    known: Layer | None = None  # the expected layer, if it was made before


@dataclass(frozen=True, slots=True)
class SystemJob:
    """Make a layer of a root file system, or of its difference to the one below it."""

    key: str
    title: str
    root: Root
    below: Root | None
    python: str
    scratch: Path
    weight: int
    threaded: bool = False


Job = WheelJob | SystemJob


def make_layer(job: Job) -> Layer:
    """Carry out one job: write a blob at `job.scratch`, and its table of contents beside it.

    Raises WheelError or BaseImageError for inputs that must not become a layer.
    """
    try:
        return _from_rootfs(job) if isinstance(job, SystemJob) else _from_wheels(job)
    except LayersError as error:
        wanted = BaseImageError if isinstance(job, SystemJob) else WheelError
        raise wanted(str(error)) from error


def _from_rootfs(job: SystemJob) -> Layer:
    with (
        LayerWriter(job.scratch, packed=True, threaded=job.threaded) as writer,
        job.root.open(job.python) as root,
        job.below.open(job.python) if job.below else nullcontext() as below,
    ):
        root.write(writer, below)
        return writer.finish()


def _from_wheels(job: WheelJob) -> Layer:
    where = job.scratch, job.wheels, empty_environment(job.python)
    if job.interpreter is None:
        return write_layer(*where, known=job.known, threaded=job.threaded)
    compiled = partial(_compiled, job.interpreter, job.scratch)
    return write_bytecode(*where, compiled, threaded=job.threaded)


def _compiled(
    interpreter: Interpreter, scratch: Path, wheel: Path, plan: list[Target]
) -> Iterator[tuple[str, bytes]]:
    modules = [
        Module(target.member.name, target.path, target.member.size)
        for target in plan
        if target.member and target.member.size <= _COMPILED_MAX and is_compiled(target.path)
    ]
    output = scratch.with_name(f"{scratch.name}.pyc")
    try:
        yield from compile_wheel(wheel, modules, interpreter, output)
    finally:
        output.unlink(missing_ok=True)
