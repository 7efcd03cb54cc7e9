"""Check that every CUDA library loads, and that there is only one of each."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

from .cell import CPU_ONLY
from .cudalib import (
    by_dependency,
    cuda_libraries,
    is_cuda_library,
    is_stub,
    shared_objects,
    stem,
)
from .elf import SharedObject
from .result import Check, Options, Outcome, failed, passed, skipped

# The driver brings these; no image may, because they must fit the host's kernel module.
DRIVER = ("libcuda.so.1", "libnvidia-ml.so.1")
# Network fabrics that plug-ins of NVSHMEM and cuFile are for; the host decides which it has.
FABRIC = ("libmlx5", "libibverbs", "librdmacm", "libmpi", "libfabric", "libucp", "libucs",
          "libpmix", "liboshmem")  # fmt: skip
LAUNCHER = "undefined symbol: pmix_"  # NVSHMEM's bootstrap by PMIx: Slurm or mpirun bring it
# Copies that a wheel keeps for a tool of its own, under a path that only this tool loads.
PRIVATE_COPIES = {
    "triton/backends/nvidia/lib/cupti": "only Triton's profiler loads it, by path",
    "torchvision.libs/": "torchvision loads it for pictures, under a name of its own",
}


def checks(options: Options) -> Iterator[Check]:
    """List a check per library and the search for duplicates; in a CPU image, their absence."""
    if options.cpu_only:
        yield "libraries.none", check_none
        return
    libraries = cuda_libraries()
    if not libraries:
        yield "libraries.load", partial(no_libraries, options)
    for library in libraries:
        yield f"libraries.load.{library.path.name}", partial(check_load, library)
    yield "libraries.unique", check_unique


def no_libraries(options: Options) -> Outcome:
    """Report that there is nothing to load: a fault only in an image with CUDA."""
    if options.cell is not None:
        return failed(f"no wheel here brings CUDA libraries, and the cell has {options.cell.cuda}")
    return skipped("no wheel here brings CUDA libraries: CPU build")


def check_none() -> Outcome:
    """Check that no library of NVIDIA's is there, stubs and private copies included."""
    paths = [str(library.path) for library in shared_objects() if is_cuda_library(library)]
    if paths:
        return failed(f"{CPU_ONLY}, but there is {', '.join(paths)}", paths)
    return passed({"libraries": 0})


def check_load(library: SharedObject) -> Outcome:
    """Check that the dynamic linker loads the library and resolves its symbols."""
    error = load_all(tuple(each.path for each in by_dependency(cuda_libraries())))[library.path]
    if error is None:
        return passed(library.soname)
    missing = error.split(":", 1)[0]
    if missing in DRIVER:
        return skipped(f"needs the NVIDIA driver's {missing}", wants_gpu=True)
    if missing.startswith(FABRIC):
        return skipped(f"a plug-in for a network fabric: needs the host's {missing}")
    if LAUNCHER in error:
        return skipped("a plug-in for a job launcher, which loads PMIx before it")
    return failed(f"{library.path}: {error}")


@cache
def load_all(paths: tuple[Path, ...]) -> dict[Path, str | None]:
    """Load the libraries in a child; one that kills the child is noted and the rest goes on."""
    results: dict[Path, str | None] = {}
    waiting = list(paths)
    while len(results) < len(paths):
        lines, code = _run_child(waiting)
        results.update((Path(path), error) for path, error in lines)
        remaining = [path for path in waiting if path not in results]
        if remaining:
            results[remaining[0]] = f"loading it ended the process ({_ending(code)})"
        # Whatever loads stays in the list: the libraries behind the crash may need it.
        waiting = [path for path in waiting if path != next(iter(remaining), None)]
    return results


def _run_child(paths: list[Path]) -> tuple[list[tuple[str, str | None]], int]:
    program = Path(__file__).with_name("dlopen.py")
    child = subprocess.run(
        [sys.executable, "-I", str(program), *map(str, paths)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    lines = [json.loads(line) for line in child.stdout.splitlines() if line.endswith("]")]
    return [(path, error) for path, error in lines], child.returncode


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def check_unique() -> Outcome:
    """Check that no CUDA library is there twice in any version: copies crash or waste space."""
    libraries = [library for library in shared_objects() if is_cuda_library(library)]
    stubs = [str(library.path) for library in libraries if is_stub(library.path)]
    private = {str(item.path): reason for item in libraries if (reason := private_copy(item.path))}
    copies = duplicates(item for item in libraries if str(item.path) not in (*stubs, *private))
    seen = {"libraries": len(libraries), "stubs": stubs, "private": private, "twice": copies}
    if copies:
        listing = "; ".join(f"{name}: {', '.join(paths)}" for name, paths in copies.items())
        return failed(f"more than one copy of a CUDA library: {listing}", seen)
    return passed(seen)


def duplicates(libraries: Iterator[SharedObject]) -> dict[str, list[str]]:
    """Return paths by library name, for the names that more than one file has."""
    paths: defaultdict[str, list[str]] = defaultdict(list)
    for library in libraries:
        paths[stem(library.name)].append(str(library.path))
    return {name: files for name, files in sorted(paths.items()) if len(files) > 1}


def private_copy(path: Path) -> str | None:
    """Say why a copy that a wheel keeps for itself is harmless; None for any other library."""
    reasons = (why for folder, why in PRIVATE_COPIES.items() if folder in path.as_posix())
    return next(reasons, None)
