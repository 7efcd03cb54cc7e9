"""What a framework's wheel was built for, read from the files that state it."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import partial

from wheelyard.frameworks.record import CPU, BuildFacts, Read

_TORCH = "torch/version.py"
_TORCH_CONFIG = "torch/include/ATen/cuda/CUDAConfig.h"
_TORCH_CUDA = re.compile(r"^cuda\b[^=]*=\s*(?:['\"]([\d.]+)['\"]|None)", re.MULTILINE)
_ARCHITECTURE = re.compile(r"code=\[?([a-z]+_\d+[a-z]?)")
_TENSORFLOW = "tensorflow/python/platform/build_info.py"

# nanobind's function for `return CONSTANT;`, on x86-64: mov edi, CONSTANT; call PyLong_FromLong;
# pop rbp; ret, and on arm64: mov w0, LOW; movk w0, HIGH, lsl 16; bl PyLong_FromLong; ldp; ret.
_AMD64 = re.compile(rb"\xbf(.{4})\xe8.{4}\x5d\xc3", re.DOTALL)
_ARM64 = re.compile(
    rb"(.{3}\x52)(.{3}\x72)?.{3}[\x94-\x97]\xfd\x7b\xc1\xa8\xc0\x03\x5f\xd6", re.DOTALL
)
_FATBINARY = struct.pack("<I", 0xBA55ED50)  # CUDA's container of code for several architectures
_KINDS = {1: "compute", 2: "sm"}  # PTX, machine code


def torch_built(read: Read) -> BuildFacts:
    """Read PyTorch's version module and the flags that its kernels were compiled with."""
    match = _TORCH_CUDA.search(_text(read, _TORCH, "the CUDA of the build"))
    if match is None:
        raise ValueError(f"{_TORCH} inside does not state its CUDA version")
    if match[1] is None:
        return BuildFacts(CPU)
    config = _text(read, _TORCH_CONFIG, "the compiled architectures")
    return BuildFacts(match[1], None, tuple(dict.fromkeys(_ARCHITECTURE.findall(config))))


def tensorflow_built(read: Read) -> BuildFacts:
    """Read TensorFlow's build_info."""
    text = _text(read, _TENSORFLOW, "the CUDA of the build")
    cuda, cudnn = _stated("cuda_version", text), _stated("cudnn_version", text)
    if cuda is None:
        if re.search(r"['\"]is_cuda_build['\"]\s*[,:]\s*False", text):
            return BuildFacts(CPU)
        raise ValueError(f"{_TENSORFLOW} inside does not state its CUDA version")
    listed = re.search(r"['\"]cuda_compute_capabilities['\"]\s*[,:]\s*\[([^\]]*)\]", text)
    return BuildFacts(
        cuda, cudnn, tuple(re.findall(r"[a-z]+_\d+[a-z]?", listed[1] if listed else ""))
    )


def jax_built(read: Read) -> BuildFacts:
    """Read the modules of JAX's CUDA plugin; what it was built for is in no text file.

    `_versions.so` has functions that return the headers' constants, CUDA's first and cuDNN's
    second; they are read as machine code, because no code of a wheel is run. The kernels of
    `_linalg.so` are in a fat binary, whose headers name the architectures.
    """
    for package in ("jax_cuda12_plugin", "jax_cuda13_plugin"):
        versions = f"{package}/_versions.so"
        if (code := read(versions)) is not None:
            cuda, cudnn = _constants(code, versions, package[len("jax_cuda") :][:2])
            kernels = f"{package}/_linalg.so"
            compiled = read(kernels)
            if compiled is None:
                raise ValueError(f"it has no {kernels}, which states the compiled architectures")
            return BuildFacts(cuda, cudnn, tuple(_architectures(compiled)))
    raise ValueError("it has no _versions.so, which states the CUDA of the build")


def _constants(code: bytes, name: str, major: str) -> tuple[str, str]:
    """Return CUDA and cuDNN as CUDART_VERSION and CUDNN_VERSION encode them."""
    found = [int.from_bytes(value, "little") for value in _AMD64.findall(code)]
    found = (found or [_moved(low) | _moved(high) << 16 for low, high in _ARM64.findall(code)])[:2]
    known = b"cuda_runtime_build_version" in code and b"cudnn_build_version" in code
    if len(found) == 2 and known:
        cuda, cudnn = found
        if str(cuda // 1000) == major and 90000 <= cudnn < 1000000:
            return (
                f"{cuda // 1000}.{cuda % 1000 // 10}",
                f"{cudnn // 10000}.{cudnn % 10000 // 100}.{cudnn % 100}",
            )
    raise ValueError(f"{name} inside does not state its CUDA version")


def _moved(instruction: bytes) -> int:
    """Return the 16 bits that an arm64 instruction moves; 0 for none."""
    return int.from_bytes(instruction, "little") >> 5 & 0xFFFF


def _architectures(code: bytes) -> Iterator[str]:
    """Yield the architectures of all fat binaries in a library, each once."""
    found = {
        (kind, number)
        for match in re.finditer(re.escape(_FATBINARY), code)
        for kind, number in _entries(code, match.start())
    }
    ordered = sorted(found, key=lambda item: (-item[0], item[1]))  # machine code first
    yield from (f"{_KINDS[kind]}_{number}" for kind, number in ordered)


def _entries(code: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield kind and architecture of a fat binary's entries, as far as it is whole."""
    unpack = partial(struct.unpack_from, buffer=code)
    if start + 16 > len(code):
        return
    _, header, size = unpack("<HHQ", offset=start + 4)
    place, end = start + header, min(start + header + size, len(code))
    while place + 32 <= end:
        kind, _, header, size = unpack("<HHIQ", offset=place)
        if kind not in _KINDS or not header:
            return
        yield kind, unpack("<I", offset=place + 28)[0]
        place += header + size


def _text(read: Read, file: str, what: str) -> str:
    content = read(file)
    if content is None:
        raise ValueError(f"it has no {file}, which states {what}")
    return content.decode("utf-8")


def _stated(key: str, text: str) -> str | None:
    match = re.search(rf"['\"]{key}['\"]\s*[,:]\s*['\"]([\d.]+)['\"]", text)
    return match[1] if match else None
