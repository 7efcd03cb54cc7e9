"""Find the CUDA libraries that the installed wheels brought."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from .elf import SharedObject, read_shared_object

# Names NVIDIA gives its libraries; a wheel that bundles one mangles in 8 hex digits.
CUDA_NAME = re.compile(
    r"lib(cublas|cuda|cudnn|cufft|curand|cusolver|cusparse|cupti|cufile|nccl|nv)"
)
MANGLED = re.compile(r"[-.][0-9a-f]{8}$")  # auditwheel; torchvision's own relocation


def site_packages() -> tuple[Path, ...]:
    """List every folder on `sys.path` that wheels are installed in."""
    paths = (Path(entry) for entry in sys.path)
    folders = (path for path in paths if path.name in ("site-packages", "dist-packages"))
    return tuple(dict.fromkeys(path for path in folders if path.is_dir()))


def stem(soname: str) -> str:
    """Cut off the version: `libcudnn.so.8` and `libcudnn.so.9` are one library."""
    return MANGLED.sub("", soname.split(".so", 1)[0])


def is_stub(path: Path) -> bool:
    """Say whether it is a stub, which carries symbols for the linker and no code."""
    return "stubs" in path.parts


def is_cuda_library(library: SharedObject) -> bool:
    """Say whether it is NVIDIA's, by the folder it was installed to or by its name."""
    return in_nvidia_wheel(library.path) or CUDA_NAME.match(library.name) is not None


def in_nvidia_wheel(path: Path) -> bool:
    """Say whether it is below `site-packages/nvidia`: `cudnn/lib` (CUDA 12) or `cu13/lib`."""
    return any(path.is_relative_to(folder / "nvidia") for folder in site_packages())


@cache
def shared_objects() -> tuple[SharedObject, ...]:
    """List every shared object in site-packages, sorted by path, without symbolic links."""
    files = (path for folder in site_packages() for path in _shared_files(folder))
    return tuple(library for path in sorted(files) if (library := read_shared_object(path)))


def cuda_libraries() -> tuple[SharedObject, ...]:
    """Return the CUDA libraries of NVIDIA's wheels, stubs left out."""
    libraries = (library for library in shared_objects() if in_nvidia_wheel(library.path))
    return tuple(library for library in libraries if not is_stub(library.path))


def by_dependency(libraries: tuple[SharedObject, ...]) -> tuple[SharedObject, ...]:
    """Order libraries so that each comes after those it needs."""
    by_name = {library.name: library for library in libraries}
    ordered: dict[Path, SharedObject] = {}
    visiting: set[Path] = set()

    def visit(library: SharedObject) -> None:
        if library.path in visiting:
            return
        visiting.add(library.path)
        for name in library.needed:
            if name in by_name:
                visit(by_name[name])
        ordered[library.path] = library

    for library in libraries:
        visit(library)
    return tuple(ordered.values())


def load(name: str) -> ctypes.CDLL | None:
    """Load the CUDA library with this stem and what it needs; None when no wheel brought it."""
    libraries = cuda_libraries()
    wanted = next((library for library in libraries if stem(library.name) == name), None)
    if wanted is None:
        return None
    for library in by_dependency(_closure(wanted, libraries)):
        handle = ctypes.CDLL(str(library.path))
    return handle


def _closure(wanted: SharedObject, libraries: tuple[SharedObject, ...]) -> tuple[SharedObject, ...]:
    by_name = {library.name: library for library in libraries}
    ordered: dict[Path, SharedObject] = {}
    waiting = [wanted]
    while waiting:
        library = waiting.pop()
        if library.path not in ordered:
            ordered[library.path] = library
            waiting += [by_name[name] for name in library.needed if name in by_name]
    return tuple(ordered.values())


def _shared_files(folder: Path) -> Iterator[Path]:
    for parent, _folders, names in os.walk(folder):
        for name in names:
            if name.endswith(".so") or ".so." in name:
                path = Path(parent, name)
                if not path.is_symlink():
                    yield path
