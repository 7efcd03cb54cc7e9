"""What a worker process does: one layer, from wheels on disk to a blob in scratch."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wheelyard.contract.exclusions import is_compiled
from wheelyard.contract.paths import GID, VENV
from wheelyard.errors import WheelError
from wheelyard.images.assemble.contract import empty_environment
from wheelyard.layers.bytecode import Interpreter, Module, compile_wheel
from wheelyard.layers.install import plan_install
from wheelyard.layers.layer import AnotherLayerError, LayerWriter
from wheelyard.layers.toc import parents
from wheelyard.layers.wheel import Member, Wheel
from wheelyard.system.storage import is_file_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from wheelyard.images.assemble.roots import Root
    from wheelyard.layers.install import Target
    from wheelyard.layers.layer import Layer

_DIRECTORY_MODE = 0o2775  # setgid: what a remapped user adds stays writable for the group
FILE_MODE, _PROGRAM_MODE = 0o664, 0o775
_COMPILED_MAX = 1 << 20  # bytes of a module; compiling may take 700 times its size in memory


@dataclass(frozen=True, slots=True)
class WheelInput:
    """A wheel on disk and what the lock says it is."""

    path: Path
    name: str
    version: str
    sha256: str | None = None  # hex, of a file that has lain in the cache; None: just checked


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
    known: Layer | None = None  # what it will be, where somebody has made it before


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
_Owner = tuple[WheelInput, Member | bytes]  # of a path: a member, or the SHA-256 of what was made


def make_layer(job: Job) -> Layer:
    """Carry out one job: a blob at `job.scratch`, its table of contents beside it.

    Raises WheelError for a wheel that must not become a layer.
    """
    return _from_rootfs(job) if isinstance(job, SystemJob) else _from_wheels(job)


def _from_rootfs(job: SystemJob) -> Layer:
    with (
        LayerWriter(job.scratch, packed=True, threaded=job.threaded) as writer,
        job.root.open(job.python) as root,
        job.below.open(job.python) if job.below else nullcontext() as below,
    ):
        root.write(writer, below)
        return writer.finish()


def _from_wheels(job: WheelJob) -> Layer:
    try:
        return _written(job)
    except AnotherLayerError:  # what is known is not true here: believe the wheels
        return _written(replace(job, known=None))


def _written(job: WheelJob) -> Layer:
    if job.known is None:  # else the blob's digest vouches for all that the wheels' bytes decide
        for source in job.wheels:
            _require_whole(source)
    with LayerWriter(
        job.scratch,
        packed=job.interpreter is not None,
        threaded=job.threaded,
        known=job.known,
    ) as writer:
        owners: dict[str, _Owner] = {}
        for wheel_input in job.wheels:
            with Wheel(wheel_input.path) as wheel:
                environment = empty_environment(job.python)
                plan = plan_install(wheel, wheel_input.name, wheel_input.version, environment)
                if job.interpreter:
                    _add_bytecode(writer, wheel, plan, job.interpreter, job.scratch)
                else:
                    _add_files(writer, wheel, wheel_input, plan, owners)
        return writer.finish()


def _require_whole(source: WheelInput) -> None:
    """Raise WheelError for other bytes than the locked ones.

    A zip has a checksum for each member's content, none for names, modes and what is read first.
    """
    if source.sha256 is not None and not is_file_of(source.path, source.sha256):
        raise WheelError(f"{source.path.name}: damaged in the cache")


def _add_files(
    writer: LayerWriter,
    wheel: Wheel,
    source: WheelInput,
    plan: list[Target],
    owners: dict[str, _Owner],
) -> None:
    for target in plan:
        if owner := owners.get(target.path):
            _check_twin(wheel, target, owner)
            continue
        _check_place(writer, target.path, wheel)
        owners[target.path] = (source, target.member or _content_digest([target.content]))
        add_parents(writer, target.path)
        mode = _PROGRAM_MODE if target.executable else FILE_MODE
        if target.member:
            writer.member(target.path, wheel, target.member, mode, GID)
        else:
            writer.file(target.path, target.content, mode, 0, GID)


def _check_twin(wheel: Wheel, target: Target, owner: _Owner) -> None:
    """Two wheels may own one path only with the same bytes (`nvidia/__init__.py`)."""
    source, twin = owner
    digest = _member_digest(wheel, target.member) if target.member else None
    if isinstance(twin, Member):
        with Wheel(source.path) as other:
            twin = _member_digest(other, twin)
    if twin != (digest or _content_digest([target.content])):
        raise _conflict(target.path, source.path.name, wheel.path.name)


def _check_place(writer: LayerWriter, path: str, wheel: Wheel) -> None:
    """What is a file in one wheel may be no folder in another."""
    for place in (path, *(folder for folder in parents(path) if not writer.is_folder(folder))):
        if place in writer:
            raise WheelError(
                f"{wheel.path.name} and another wheel hold /{place}, as a file and as a folder; an "
                "image cannot hold both wheels: change the requirements of the cell"
            )


def _member_digest(wheel: Wheel, member: Member) -> bytes:
    return _content_digest(data for _, data in wheel.stream(member))


def _content_digest(pieces: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for data in pieces:
        digest.update(data)
    return digest.digest()


def _conflict(path: str, first: str, second: str) -> WheelError:
    """The error for two wheels that both own `path`."""
    return WheelError(
        f"{first} and {second} both hold {path}, with different content; an image cannot hold "
        "both wheels: change the requirements of the cell"
    )


def _add_bytecode(
    writer: LayerWriter, wheel: Wheel, plan: list[Target], interpreter: Interpreter, scratch: Path
) -> None:
    modules = [
        Module(t.member.name, t.path, t.member.size)
        for t in plan
        if t.member
        and t.member.size <= _COMPILED_MAX
        and is_compiled(t.path)
        and t.path not in writer
    ]
    output = scratch.with_name(f"{scratch.name}.pyc")
    try:
        for path, pyc in compile_wheel(wheel.path, modules, interpreter, output):
            if path not in writer:
                _check_place(writer, path, wheel)
                add_parents(writer, path)
                writer.file(path, pyc, FILE_MODE, 0, GID)
    finally:
        output.unlink(missing_ok=True)


def add_parents(writer: LayerWriter, path: str) -> None:
    """Add the folders above `path`, each once a layer, as the contract has them in every base."""
    if path.rpartition("/")[0] in writer:
        return
    for folder in parents(path):
        if folder in writer:
            continue
        if f"{folder}/".startswith(f"{VENV}/"):
            writer.directory(folder, _DIRECTORY_MODE, 0, GID)
        else:
            writer.directory(folder, 0o755)
