"""What is installed says its version, and that is compared with the cell."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from selfcheck.cudalib import cuda_libraries, load, stem
from selfcheck.result import Check, Options, Outcome, compared, failed, passed, skipped

MODULES = {"pytorch": "torch", "tensorflow": "tensorflow"}
PROPERTY_LIBRARIES = ("cublas", "cufft", "curand", "cusolver", "cusparse")


@dataclass(frozen=True, slots=True)
class VersionCall:
    """How a CUDA library is asked for its version, and how the number is to be read."""

    library: str  # stem
    function: str
    by_pointer: bool  # the answer comes through an argument and the return value is a status
    decode: Callable[[int], tuple[int, ...]]


def decode_cudart(number: int) -> tuple[int, ...]:
    """12010 -> (12, 1): CUDA Runtime API, cudaRuntimeGetVersion."""
    return number // 1000, number % 1000 // 10


def decode_cudnn(number: int) -> tuple[int, ...]:
    """8902 -> (8, 9, 2) and, from cuDNN 9 on, 90100 -> (9, 1, 0): cudnn_version.h."""
    unit = 10000 if number >= 90000 else 1000
    return number // unit, number % unit // 100, number % 100


def decode_nccl(number: int) -> tuple[int, ...]:
    """22005 -> (2, 20, 5) and, before NCCL 2.9, 2804 -> (2, 8, 4): nccl.h."""
    unit = 10000 if number >= 10000 else 1000
    return number // unit, number % unit // 100, number % 100


CALLS = {
    "cudart": VersionCall("libcudart", "cudaRuntimeGetVersion", True, decode_cudart),
    "cudnn": VersionCall("libcudnn", "cudnnGetVersion", False, decode_cudnn),
    "nccl": VersionCall("libnccl", "ncclGetVersion", True, decode_nccl),
}


def checks(options: Options) -> Iterator[Check]:
    """Python, each framework and the CUDA it was built for, then every library's own answer."""
    cell = options.cell
    yield "versions.python", partial(check_python, cell.python if cell else None)
    for name in cell.frameworks if cell else installed_frameworks():
        expected = cell.frameworks[name] if cell else None
        yield f"versions.{name}", partial(check_framework, name, expected)
    if not cell or "pytorch" in cell.frameworks:
        yield "versions.torch-cuda", partial(check_torch_cuda, cell.cuda if cell else None)
    yield "versions.cudart", partial(check_call, CALLS["cudart"], cell.cuda if cell else None)
    yield "versions.cudnn", partial(check_call, CALLS["cudnn"], cell.cudnn if cell else None)
    yield "versions.nccl", partial(check_call, CALLS["nccl"], wheel_version("libnccl", 3))
    for library in PROPERTY_LIBRARIES:
        yield f"versions.{library}", partial(check_property, library)


def installed_frameworks() -> tuple[str, ...]:
    """The frameworks that can be imported here, PyTorch when there is none."""
    found = tuple(name for name, module in MODULES.items() if importlib.util.find_spec(module))
    return found or ("pytorch",)


def check_python(expected: str | None) -> Outcome:
    """The interpreter is the cell's."""
    return compared_version(platform.python_version(), expected, "Python")


def check_framework(name: str, expected: str | None) -> Outcome:
    """The framework imports and has the cell's version; a local part such as `+cu121` is free."""
    version = importlib.import_module(MODULES[name]).__version__
    seen = version if expected and "+" in expected else version.split("+")[0]
    return compared(seen, expected, name)


def check_torch_cuda(expected: str | None) -> Outcome:
    """The CUDA version PyTorch was compiled for is the cell's."""
    seen = importlib.import_module("torch").version.cuda
    if seen is None and expected is None:
        return skipped("PyTorch is a CPU build")
    return compared(seen, expected, "the CUDA that PyTorch was built for")


def check_call(call: VersionCall, expected: str | None) -> Outcome:
    """The library's own version function agrees with the expected version, as far as that goes."""
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
    """`<library>GetProperty` (library_types.h: major, minor, patch) agrees with its wheel."""
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
    """The version, cut to `parts` numbers, of the wheel that brought a library."""
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
