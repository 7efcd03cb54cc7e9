"""Reads a framework release's facts from its remote wheel: megabytes instead of gigabytes."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.parser import Parser
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from wheelyard.architecture import DEFAULT, Architecture
from wheelyard.contract.constraints import environment
from wheelyard.errors import FetchError
from wheelyard.fetching.replies import Interrupted, Refused
from wheelyard.frameworks.record import BuildFacts, Read
from wheelyard.lock.upstream.remotefile import CHUNK, RemoteFile

if TYPE_CHECKING:
    import httpx

    from wheelyard.lock.upstream.listing import IndexFile

_KEPT = re.compile(r"nvidia-.*|cuda-.*|triton")
_LARGEST = 64 << 20  # bytes of a member that is read whole


@dataclass(frozen=True, slots=True)
class WheelFacts:
    """The facts that one wheel states."""

    built: BuildFacts
    requires: dict[str, str]  # NVIDIA's distributions and Triton -> specifiers as stated


def read_wheel(
    file: IndexFile,
    wanted: Requirement,
    built: Callable[[Read], BuildFacts],
    client: httpx.Client,
    on_bytes: Callable[[int], None] = lambda _: None,
    architecture: Architecture = DEFAULT,
) -> WheelFacts | None:
    """Read a wheel's directory, its METADATA and the files that state what it was built for.

    None for a wheel with nothing in it, which only asks for another distribution: TensorFlow 2.15
    for arm64.
    `wanted` names the extras whose requirements count; `built` is the framework's way to read what
    it was built for. Raises FetchError, which names the file, if
    it cannot be read, lacks one of those files, or is not the file that the index describes.
    """
    try:
        with zipfile.ZipFile(
            io.BufferedReader(RemoteFile(file.url, client, on_bytes), CHUNK)
        ) as wheel:
            metadata = _metadata(wheel, file)
            if all(".dist-info/" in name for name in wheel.namelist()):
                return None
            requires = dict(_requires(metadata, wanted, architecture))
            return WheelFacts(built(_reader(wheel)), requires)
    except (Refused, Interrupted) as problem:
        raise FetchError(f"{file.filename}: cannot be read from the index: {problem}") from problem
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as problem:
        raise FetchError(
            f"{file.filename}: the file from the index is not a wheel: {problem}"
        ) from None
    except ValueError as problem:
        raise FetchError(f"{file.filename}: {problem}") from problem


def _metadata(wheel: zipfile.ZipFile, file: IndexFile) -> str:
    members = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    if len(members) != 1:
        raise ValueError(f"it has {len(members)} METADATA files, not one")
    content = wheel.read(members[0])
    if file.metadata not in (None, hashlib.sha256(content).hexdigest()):
        raise ValueError("its METADATA has another hash than the index lists; not the same file")
    return content.decode("utf-8")


def _reader(wheel: zipfile.ZipFile) -> Read:
    def read(member: str) -> bytes | None:
        try:
            info = wheel.getinfo(member)
        except KeyError:
            return None
        if info.file_size > _LARGEST:
            raise ValueError(f"{member} inside is larger than {_LARGEST >> 20} MiB")
        return wheel.read(info)

    return read


def _requires(
    metadata: str, wanted: Requirement, architecture: Architecture
) -> Iterator[tuple[str, str]]:
    """Yield NVIDIA's and Triton's requirements that apply on Linux with the wanted extras."""
    for line in Parser().parsestr(metadata).get_all("Requires-Dist", []):
        try:
            requirement = Requirement(line)
        except InvalidRequirement as problem:
            raise ValueError(f"its METADATA has an invalid requirement: {line}") from problem
        name = canonicalize_name(requirement.name)
        if _KEPT.fullmatch(name) and _holds(requirement, wanted.extras, architecture):
            yield name, str(requirement.specifier)


def _holds(requirement: Requirement, extras: set[str], architecture: Architecture) -> bool:
    marker, values = requirement.marker, environment("3.11", architecture.machine)
    return marker is None or any(
        marker.evaluate(values | {"extra": extra}) for extra in ("", *extras)
    )
