"""What is installed says its version, and that is compared with the cell."""

from __future__ import annotations

import ctypes
import importlib.metadata
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .cell import CPU, CPU_ONLY
from .cudalib import cuda_libraries, load, stem
from .frameworks import (
    MODULES,
    chosen_frameworks,
    import_framework,
    installed_frameworks,
    missing_framework,
    usable_frameworks,
)
from .gpu import find_driver
from .gpu.architectures import architectures, built_cuda, built_cudnn
from .gpu.driver import NoDriverError
from .gpu.judge import driver_floor, judge_driver
from .result import Check, Options, Outcome, compared, failed, passed, skipped

PINS = Path("/etc/pip/constraint.txt")  # what makes the cell, as pip and uv are told
ADVICE = "take an image that has what you need, or install the image's own again"
PROPERTY_LIBRARIES = ("cublas", "cufft", "curand", "cusolver", "cusparse")


@dataclass(frozen=True, slots=True)
class VersionCall:
    """How a CUDA library is asked for its version, and how the number is to be read."""

    library: str  # stem
    function: str
    by_pointer: bool  # the answer comes through an argument and the return value is a status
    decode: Callable[[int], tuple[int, ...]]


def decode_cudart(number: int) -> tuple[int, ...]:
    """Decode 12010 to (12, 1): CUDA Runtime API, cudaRuntimeGetVersion."""
    return number // 1000, number % 1000 // 10


def decode_cudnn(number: int) -> tuple[int, ...]:
    """Decode 8902 to (8, 9, 2) and, from cuDNN 9 on, 90100 to (9, 1, 0): cudnn_version.h."""
    unit = 10000 if number >= 90000 else 1000
    return number // unit, number % unit // 100, number % 100


def decode_nccl(number: int) -> tuple[int, ...]:
    """Decode 22005 to (2, 20, 5) and, before NCCL 2.9, 2804 to (2, 8, 4): nccl.h."""
    unit = 10000 if number >= 10000 else 1000
    return number // unit, number % unit // 100, number % 100


CALLS = {
    "cudart": VersionCall("libcudart", "cudaRuntimeGetVersion", True, decode_cudart),
    "cudnn": VersionCall("libcudnn", "cudnnGetVersion", False, decode_cudnn),
    "nccl": VersionCall("libnccl", "ncclGetVersion", True, decode_nccl),
}


def checks(options: Options) -> Iterator[Check]:
    """List Python, each framework with the CUDA it was built for, then every library's answer."""
    cell = options.cell
    yield "versions.python", partial(check_python, cell.python if cell else None)
    if cell is not None:
        yield "versions.pins", partial(check_pins, PINS)
    cuda = cell.cuda if cell else None
    if reason := missing_framework(options) if cell is None else None:
        yield "versions.framework", lambda: skipped(reason)
    for name in chosen_frameworks(options):
        if name not in installed_frameworks():
            yield f"versions.{name}", partial(check_there, name)
            continue
        expected = cell.frameworks[name] if cell else None
        yield f"versions.{name}", partial(check_framework, name, expected)
        yield f"versions.{MODULES[name]}-cuda", partial(check_built_cuda, name, cuda)
        yield f"versions.{MODULES[name]}-architectures", partial(check_architectures, name)
        if not options.cpu_only:
            yield f"versions.{MODULES[name]}-cudnn", partial(check_built_cudnn, name)
    if options.cpu_only:
        yield from _absences()
        return
    yield "versions.driver", partial(check_floor, options)
    yield "versions.cudart", partial(check_call, CALLS["cudart"], cuda)
    yield "versions.cudnn", partial(check_call, CALLS["cudnn"], cell.cudnn if cell else None)
    yield "versions.nccl", partial(check_call, CALLS["nccl"], wheel_version("libnccl", 3))
    for library in PROPERTY_LIBRARIES:
        yield f"versions.{library}", partial(check_property, library)


def check_pins(path: Path) -> Outcome:
    """Check that frameworks, CUDA set and compiler are those that the image was made with."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        return skipped(f"{path}: {error.strerror}")
    pins = dict(line.split("==") for line in lines if re.fullmatch(r"[a-z0-9-]+==[^ ,]+", line))
    seen = {name: _installed(name) for name in pins}
    moved = [
        f"{name} is {seen[name] or 'gone'}, the image's is {version}"
        for name, version in pins.items()
        if seen[name] != version
    ]
    if moved:
        return failed(f"{'; '.join(moved)}: {ADVICE}", seen, pins)
    return passed(seen, pins)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _absences() -> Iterator[Check]:
    """List the same names for an image without CUDA, where none of these libraries may be."""
    yield "versions.driver", lambda: skipped(f"{CPU_ONLY}, so it needs no driver")
    for name in (*CALLS, *PROPERTY_LIBRARIES):
        yield f"versions.{name}", partial(check_absent, f"lib{name}")


def check_absent(library: str) -> Outcome:
    """Check that no wheel brought a library that an image without CUDA does not need."""
    paths = [str(item.path) for item in cuda_libraries() if stem(item.name) == library]
    if paths:
        return failed(f"{CPU_ONLY}, but there is {', '.join(paths)}", paths)
    return skipped(CPU_ONLY)


def check_python(expected: str | None) -> Outcome:
    """Check that the interpreter is the cell's."""
    return compared_version(platform.python_version(), expected, "Python")


def check_there(name: str) -> Outcome:
    """Fail: a framework of the cell cannot be imported any more."""
    return failed(f"{MODULES[name]} is not installed, and the image was made with it: {ADVICE}")


def check_framework(name: str, expected: str | None) -> Outcome:
    """Check that the framework imports and has the cell's version; `+cu121` may follow."""
    version = import_framework(name).__version__
    seen = version if expected and "+" in expected else version.split("+")[0]
    return compared(seen, expected, name)


def check_built_cuda(name: str, expected: str | None) -> Outcome:
    """Check that the CUDA version the framework was compiled for is the cell's.

    A cell may ship another minor version (TensorFlow 2.20 is built for 12.5 and runs on 12.9):
    minor-version compatibility covers that, and the report says it.
    """
    seen = built_cuda((name,))
    if seen is None:
        if expected is None:
            return skipped(f"{name} is a CPU build")
        if expected == CPU:
            return passed(CPU, expected)
        return failed(f"{name} is a CPU build", None, expected)
    if expected == CPU:
        return failed(f"{name} was built for CUDA {seen}, the image is CPU only", seen, expected)
    seen = ".".join(seen.split(".")[:2])
    if expected is None or seen == expected:
        return passed(seen, expected)
    if seen.split(".")[0] == expected.split(".")[0]:
        return passed(seen, expected, f"built for CUDA {seen}, shipped with {expected}")
    return failed(f"{name} was built for CUDA {seen}, the image has {expected}", seen, expected)


def check_built_cudnn(name: str) -> Outcome:
    """Check that the cuDNN that is loaded is the one the framework was compiled for, or newer."""
    library = load("libcudnn")
    built = built_cudnn(name)
    if library is None or built is None:
        return skipped("no cuDNN here" if library is None else f"{name} is a CPU build")
    return judge_cudnn(built, decode_cudnn(ask(library, CALLS["cudnn"])))


def judge_cudnn(built: Sequence[int], loaded: Sequence[int]) -> Outcome:
    """Compare versions: cuDNN keeps its interface within a major version, and only adds to it."""
    seen = {"built_for": ".".join(map(str, built)), "loaded": ".".join(map(str, loaded))}
    same = tuple(loaded[: len(built)])
    if same[:1] != tuple(built[:1]) or same < tuple(built):
        return failed(
            f"cuDNN {seen['loaded']} is loaded, and the framework was compiled for "
            f"{seen['built_for']}: {ADVICE}", seen,
        )  # fmt: skip
    told = f"compiled for cuDNN {seen['built_for']}, with {seen['loaded']}"
    return passed(seen, reason=None if same == tuple(built) else told)


def check_architectures(name: str) -> Outcome:
    """List the GPU generations that the framework's wheel has code for."""
    built = architectures(name)
    return passed(built) if built else skipped(f"{name} is a CPU build")


def check_floor(options: Options) -> Outcome:
    """Report the driver that the host needs; where none answers, this proves nothing."""
    names = usable_frameworks(options)
    cuda = options.cell.cuda if options.cell else built_cuda(names)
    if cuda is None:
        return skipped("a CPU build needs no driver")
    floor = driver_floor(cuda)
    if floor is None:
        return failed(f"no driver floor is known for CUDA {cuda}")
    seen = {"cuda": cuda, "driver_at_least": floor}
    if isinstance(find_driver(), NoDriverError):  # gpu.driver says why
        return skipped(f"CUDA {cuda} needs driver {floor} or newer; none answers here", seen)
    return judge_driver(find_driver(), cuda)


def check_call(call: VersionCall, expected: str | None) -> Outcome:
    """Check that the library's own version function agrees, as far as the expected one goes."""
    library = load(call.library)
    if library is None:
        return _absent(call.library, expected)
    seen = ".".join(map(str, call.decode(ask(library, call))))
    return compared_version(seen, expected, call.library)


def ask(library: ctypes.CDLL, call: VersionCall) -> int:
    """Call the version function; raises RuntimeError when it reports an error."""
    function = getattr(library, call.function)
    if not call.by_pointer:
        function.restype = ctypes.c_size_t
        return int(function())
    number = ctypes.c_int(0)
    status = function(ctypes.byref(number))
    if status:
        raise RuntimeError(f"{call.function} answered status {status}")
    return number.value


def check_property(name: str) -> Outcome:
    """Check that `<library>GetProperty` (major, minor, patch) agrees with the library's wheel."""
    library = load(f"lib{name}")
    if library is None:
        return _absent(f"lib{name}", None)
    value = ctypes.c_int(0)
    numbers = []
    for kind in range(3):
        status = library[f"{name}GetProperty"](kind, ctypes.byref(value))
        if status:
            return failed(f"{name}GetProperty answered status {status}")
        numbers.append(str(value.value))
    return compared(".".join(numbers), wheel_version(f"lib{name}", 3), name)


def wheel_version(library: str, parts: int) -> str | None:
    """Return the version, cut to `parts` numbers, of the wheel that brought a library."""
    path = next((item.path for item in cuda_libraries() if stem(item.name) == library), None)
    if path is None:
        return None
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"] or ""
        if re.match(rf"nvidia[-_].*{library[3:]}", name) and _owns(distribution, path.name):
            return ".".join(distribution.version.split(".")[:parts])
    return None


def _owns(distribution: importlib.metadata.Distribution, name: str) -> bool:
    return any(file.name == name for file in distribution.files or ())


def compared_version(seen: str, expected: str | None, what: str) -> Outcome:
    """Compare as many numbers as the expected version has: `8.9.2` is a `8.9`."""
    if expected is None or seen.split(".")[: expected.count(".") + 1] == expected.split("."):
        return passed(seen, expected)
    return failed(f"{what} is {seen}, expected {expected}", seen, expected)


def _absent(library: str, expected: str | None) -> Outcome:
    if expected is None:
        return skipped(f"no wheel here brings {library}")
    return failed(f"no wheel here brings {library}", None, expected)
