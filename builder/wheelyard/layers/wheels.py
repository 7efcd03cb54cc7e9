"""Makes a layer of wheels, or of their bytecode: the files of each, in an environment, once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.layers.errors import WheelError
from wheelyard.layers.install import Environment, Target, plan_install
from wheelyard.layers.layer import AnotherLayerError, Layer, LayerWriter
from wheelyard.layers.toc import parents
from wheelyard.layers.wheel import Member, Wheel

if TYPE_CHECKING:
    # From a wheel and what it installs: the path and content of each module's bytecode.
    Compile = Callable[[Path, list[Target]], Iterable[tuple[str, bytes]]]


@dataclass(frozen=True, slots=True)
class WheelInput:
    """A wheel on disk, and its expected name, version and hash."""

    path: Path
    name: str
    version: str
    sha256: str | None = None  # hex, where it is to be hashed; None: it has just been


_Owner = tuple[WheelInput, Member | bytes]  # of a path: a member, or the SHA-256 of what was made


def write_layer(
    blob: Path,
    wheels: Sequence[WheelInput],
    environment: Environment,
    *,
    known: Layer | None = None,
    threaded: bool = False,
) -> Layer:
    """Write the layer of `wheels`, installed into `environment`, to `blob`.

    The blob is a function of the wheels' bytes, the environment and layer.FORMAT. `known` is what
    it will be, if it was made before: then nothing is inflated, and only a blob with that digest is
    accepted; if it has another, the layer is made as if nothing were known. `threaded` hashes on a
    second core. Raises WheelError for a wheel that must not become a layer.
    """
    try:
        return _write(blob, wheels, environment, known, threaded)
    except AnotherLayerError:  # what is known is not true here: believe the wheels
        return _write(blob, wheels, environment, None, threaded)


def _write(
    blob: Path,
    wheels: Sequence[WheelInput],
    environment: Environment,
    known: Layer | None,
    threaded: bool,
) -> Layer:
    if known is None:  # else the blob's digest vouches for all that the wheels' bytes decide
        _require_whole(wheels)
    owners: dict[str, _Owner] = {}
    with LayerWriter(blob, threaded=threaded, known=known) as writer:
        for source in wheels:
            with Wheel(source.path) as wheel:
                plan = plan_install(wheel, source.name, source.version, environment)
                _add_files(writer, wheel, source, plan, environment, owners)
        return writer.finish()


def write_bytecode(
    blob: Path,
    wheels: Sequence[WheelInput],
    environment: Environment,
    compiled: Compile,
    *,
    threaded: bool = False,
) -> Layer:
    """Write the layer of the wheels' bytecode, which `compiled` makes, to `blob`.

    Raises WheelError as `write_layer` does.
    """
    _require_whole(wheels)
    with LayerWriter(blob, packed=True, threaded=threaded) as writer:
        for source in wheels:
            with Wheel(source.path) as wheel:
                plan = plan_install(wheel, source.name, source.version, environment)
                plan = [target for target in plan if target.path not in writer]
                for path, content in compiled(source.path, plan):
                    if path not in writer:
                        _check_place(writer, path, wheel)
                        add_parents(writer, path, environment)
                        writer.file(path, content, environment.file_mode, 0, environment.gid)
        return writer.finish()


def _require_whole(wheels: Iterable[WheelInput]) -> None:
    """Raise WheelError for other bytes than the expected ones.

    A zip has a checksum for each member's content, none for names, modes and what is read first.
    """
    for source in wheels:
        if source.sha256 is not None and not _is_file_of(source.path, source.sha256):
            raise WheelError(f"{source.path.name}: damaged in the cache")


def add_parents(writer: LayerWriter, path: str, environment: Environment) -> None:
    """Add the folders above `path`, each once a layer: the environment's as it has them."""
    if path.rpartition("/")[0] in writer:
        return
    for folder in parents(path):
        if folder in writer:
            continue
        if f"{folder}/".startswith(f"{environment.prefix}/"):
            writer.directory(folder, environment.folder_mode, 0, environment.gid)
        else:
            writer.directory(folder, 0o755)


def _conflict(path: str, first: str, second: str) -> WheelError:
    """Return the error for two wheels that both own `path`."""
    return WheelError(
        f"{first} and {second} both hold {path}, with different content; an image cannot hold "
        "both wheels: require only one of them"
    )


def _is_file_of(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def _add_files(
    writer: LayerWriter,
    wheel: Wheel,
    source: WheelInput,
    plan: list[Target],
    environment: Environment,
    owners: dict[str, _Owner],
) -> None:
    for target in plan:
        if owner := owners.get(target.path):
            _check_same_content(wheel, target, owner)
            continue
        _check_place(writer, target.path, wheel)
        owners[target.path] = (source, target.member or _content_digest([target.content]))
        add_parents(writer, target.path, environment)
        mode = environment.program_mode if target.executable else environment.file_mode
        if target.member:
            writer.member(target.path, wheel, target.member, mode, environment.gid)
        else:
            writer.file(target.path, target.content, mode, 0, environment.gid)


def _check_same_content(wheel: Wheel, target: Target, owner: _Owner) -> None:
    """Refuse two wheels that own one path with different bytes (`nvidia/__init__.py`)."""
    source, earlier = owner
    digest = _member_digest(wheel, target.member) if target.member else None
    if isinstance(earlier, Member):
        with Wheel(source.path) as other:
            earlier = _member_digest(other, earlier)
    if earlier != (digest or _content_digest([target.content])):
        raise _conflict(target.path, source.path.name, wheel.path.name)


def _check_place(writer: LayerWriter, path: str, wheel: Wheel) -> None:
    """Refuse a path that is a file in one wheel and a folder in another."""
    for place in (path, *(folder for folder in parents(path) if not writer.is_folder(folder))):
        if place in writer:
            raise WheelError(
                f"{wheel.path.name} and another wheel hold /{place}, as a file and as a folder; an "
                "image cannot hold both wheels: require only one of them"
            )


def _member_digest(wheel: Wheel, member: Member) -> bytes:
    return _content_digest(data for _, data in wheel.stream(member))


def _content_digest(pieces: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for data in pieces:
        digest.update(data)
    return digest.digest()
