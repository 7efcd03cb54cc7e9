"""Deterministic bytecode, made by the image's own interpreter.

The interpreter runs from the unpacked base through its own loader: no root, no chroot, any user.
Each wheel is compiled by a separate process, with its modules in a fixed order, so neither the
number of workers nor earlier work can influence the bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from wheelyard.architecture import ARCHITECTURES, DEFAULT
from wheelyard.errors import BaseImageError, WheelError
from wheelyard.system.confine import REFUSED, confined
from wheelyard.system.subprocesses import failure, run

_SCRIPT = Path(__file__).with_name("compile_worker.py")
_LARGEST = 1 << 28  # bytes of one module's code
_NOBODY = 65534
_PATIENCE = 3600.0  # seconds for the modules of a wheel
_CONFINE_ADVICE = (
    "the Python of a registry's image runs only in its own namespaces: run as root, "
    "or where users may create namespaces (outside a container, or in one with --privileged), or "
    "let an engine build the image: --engine docker"
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The image's Python, unpacked on this machine."""

    root: Path  # holds usr/, lib64/ ... of the base
    python: str  # "3.11"
    identity: str  # sha256 hex over the packages that it consists of
    prefix: str = "usr"  # its place in the base; or "usr/local"
    foreign: bool = False  # of a registry's image: it must run confined
    architecture: str = DEFAULT.name  # the processors that it runs on
    emulator: str | None = None  # qemu, where this machine is another

    def command(self, *arguments: str) -> list[str]:
        """Return the argument list that runs it, in `root`: the cache's path may hold a colon."""
        here = ARCHITECTURES[self.architecture]
        multiarch = f"lib/{here.multiarch}"
        libraries = f"{multiarch}:usr/{multiarch}:{self.prefix}/lib"
        search = ["--inhibit-cache", "--library-path", libraries]  # not this machine's cache
        program = f"{self.prefix}/bin/python{self.python}"
        start = [] if self.emulator is None else [self.emulator]
        return [*start, here.loader, *search, program, "-s", "-S", *arguments]

    def environment(self) -> dict[str, str]:
        """Return the interpreter's whole environment; it inherits nothing of ours."""
        return {
            "PYTHONHOME": self.prefix,
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUTF8": "1",
            "LC_ALL": "C",  # any other locale is read from this machine's files
        }

    @property
    def cache_tag(self) -> str:
        """The text that CPython puts between a module's name and `.pyc`."""
        return f"cpython-{self.python.replace('.', '')}"


@dataclass(frozen=True, slots=True)
class Module:
    """A module of a wheel, to be compiled."""

    member: str  # in the wheel
    path: str  # installed, relative to the root of the image
    size: int  # of the source, bytes


def _pyc_path(path: str, interpreter: Interpreter) -> str:
    """Return the path where CPython looks for the bytecode of the module at `path`."""
    module = PurePosixPath(path)
    return str(module.parent / "__pycache__" / f"{module.stem}.{interpreter.cache_tag}.pyc")


def compile_wheel(
    wheel: Path, modules: Iterable[Module], interpreter: Interpreter, scratch: Path
) -> Iterator[tuple[str, bytes]]:
    """Yield pairs of installed .pyc path and content, sorted by module; skip what does not compile.

    `scratch` is a path for the interpreter's output. Raises WheelError when the interpreter fails.
    """
    ordered = sorted(modules, key=lambda m: m.path)
    if not ordered:
        return
    _run(wheel, ordered, interpreter, scratch)
    with scratch.open("rb") as output:
        for module in ordered:
            if code := _next(output, module):
                yield _pyc_path(module.path, interpreter), code


def _next(output: BinaryIO, module: Module) -> bytes:
    """Read the next module's code, up to a limit: a registry's Python may have written anything."""
    head = output.read(4)
    length = int.from_bytes(head)
    code = output.read(length) if length <= _LARGEST else b""
    if len(head) != 4 or len(code) != length:
        raise WheelError(f"the image's Python returned no bytecode for {module.member}")
    return code


def _run(wheel: Path, modules: list[Module], interpreter: Interpreter, output: Path) -> None:
    job = {
        "wheel": str(wheel),
        "output": str(output),
        "modules": [[module.member, f"/{module.path}"] for module in modules],
    }
    what = f"compiling the modules of {wheel.name} with the image's Python"
    if interpreter.foreign:
        _run_confined(wheel, job, interpreter, output, what)
        return
    run(
        interpreter.command(str(_SCRIPT)),
        env=interpreter.environment(),
        cwd=interpreter.root,
        stdin=json.dumps(job),
        error=WheelError,
        what=what,
    )


def _run_confined(
    wheel: Path, job: Mapping[str, object], interpreter: Interpreter, output: Path, what: str
) -> None:
    """Run a registry's Python so that it reads the wheel, writes the output, and sees nothing else.

    Raises BaseImageError if it cannot be confined.
    """
    ids = (_NOBODY, _NOBODY) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    with wheel.open("rb") as source, output.open("wb") as target:
        fds = (source.fileno(), target.fileno())
        command = confined(
            interpreter.root,
            interpreter.command("-c", _SCRIPT.read_text(encoding="utf-8")),
            ids=ids,
            env=interpreter.environment(),
        )
        stdin = json.dumps({**job, "wheel": fds[0], "output": fds[1]})
        result = run(command, error=None, stdin=stdin, timeout=_PATIENCE, fds=fds)
    if result.returncode == REFUSED:
        raise BaseImageError(failure(result, what, _CONFINE_ADVICE))
    if result.returncode != 0:
        raise WheelError(failure(result, what))
