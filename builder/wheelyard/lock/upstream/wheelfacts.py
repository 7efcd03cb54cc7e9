"""Reads a framework release's facts from its remote wheel: megabytes instead of gigabytes."""

from __future__ import annotations

import hashlib
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
from wheelyard.errors import FetchError
from wheelyard.fetching.replies import Interrupted, Refused
from wheelyard.lock.upstream.remotefile import RemoteFile, buffered
from wheelyard.planning.facts import CPU

if TYPE_CHECKING:
    import httpx

    from wheelyard.lock.upstream.listing import IndexFile

_KEPT = re.compile(r"nvidia-.*|cuda-.*|triton")
_TORCH, _TENSORFLOW = "torch/version.py", "tensorflow/python/platform/build_info.py"
_TORCH_CONFIG = "torch/include/ATen/cuda/CUDAConfig.h"
_TORCH_CUDA = re.compile(r"^cuda\b[^=]*=\s*(?:['\"]([\d.]+)['\"]|None)", re.MULTILINE)
_ARCHITECTURE = re.compile(r"code=\[?([a-z]+_\d+[a-z]?)")


@dataclass(frozen=True, slots=True)
class WheelFacts:
    """The facts that one wheel states."""

    cuda: str  # "12.1", "12.5.1"; CPU for a build without CUDA
    cudnn: str | None  # the cuDNN it was built for, as far as a file inside says it: "9"
    architectures: tuple[str, ...]  # "sm_80" for machine code, "compute_90" for PTX
    requires: dict[str, str]  # NVIDIA's distributions and Triton -> specifiers as stated


def read_wheel(
    file: IndexFile,
    wanted: Requirement,
    client: httpx.Client,
    on_bytes: Callable[[int], None] = lambda _: None,
    architecture: Architecture = DEFAULT,
) -> WheelFacts | None:
    """Read a wheel's directory, its METADATA and the files that state what it was built for.

    None for a wheel with nothing in it, which only asks for another distribution: TensorFlow 2.15
    for arm64.
    `wanted` names the extras whose requirements count. Raises FetchError, which names the file, if
    it cannot be read, lacks one of those files, or is not the file that the index describes.
    """
    try:
        with zipfile.ZipFile(buffered(RemoteFile(file.url, client, on_bytes))) as wheel:
            metadata = _metadata(wheel, file)
            if all(".dist-info/" in name for name in wheel.namelist()):
                return None
            cuda, cudnn, architectures = _build(wheel)
            requires = dict(_requires(metadata, wanted, architecture))
            return WheelFacts(cuda, cudnn, architectures, requires)
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


def _build(wheel: zipfile.ZipFile) -> tuple[str, str | None, tuple[str, ...]]:
    """Return CUDA, cuDNN if it is stated, and the compiled architectures."""
    members = set(wheel.namelist())
    if _TORCH in members:
        return _torch_build(wheel, members)
    if _TENSORFLOW in members:
        return _tensorflow_build(wheel.read(_TENSORFLOW).decode("utf-8"))
    raise ValueError(
        f"it has neither {_TORCH} nor {_TENSORFLOW}, which state the CUDA of the build"
    )


def _torch_build(
    wheel: zipfile.ZipFile, members: set[str]
) -> tuple[str, str | None, tuple[str, ...]]:
    match = _TORCH_CUDA.search(wheel.read(_TORCH).decode("utf-8"))
    if match is None:
        raise ValueError(f"{_TORCH} inside does not state its CUDA version")
    if match[1] is None:
        return CPU, None, ()
    if _TORCH_CONFIG not in members:
        raise ValueError(f"it has no {_TORCH_CONFIG}, which states the compiled architectures")
    config = wheel.read(_TORCH_CONFIG).decode("utf-8")
    return match[1], None, tuple(dict.fromkeys(_ARCHITECTURE.findall(config)))


def _tensorflow_build(text: str) -> tuple[str, str | None, tuple[str, ...]]:
    cuda, cudnn = _stated("cuda_version", text), _stated("cudnn_version", text)
    if cuda is None:
        if re.search(r"['\"]is_cuda_build['\"]\s*[,:]\s*False", text):
            return CPU, None, ()
        raise ValueError(f"{_TENSORFLOW} inside does not state its CUDA version")
    listed = re.search(r"['\"]cuda_compute_capabilities['\"]\s*[,:]\s*\[([^\]]*)\]", text)
    return cuda, cudnn, tuple(re.findall(r"[a-z]+_\d+[a-z]?", listed[1] if listed else ""))


def _stated(key: str, text: str) -> str | None:
    match = re.search(rf"['\"]{key}['\"]\s*[,:]\s*['\"]([\d.]+)['\"]", text)
    return match[1] if match else None


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
    environment = {
        "platform_system": "Linux", "sys_platform": "linux",
        "platform_machine": architecture.machine,
        "python_version": "3.11", "python_full_version": "3.11.0",
    }  # fmt: skip
    marker = requirement.marker
    return marker is None or any(
        marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)
    )
