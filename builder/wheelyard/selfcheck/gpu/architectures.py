"""What a framework was built for: answered without a GPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from ..frameworks import import_framework
from .fatbinary import architectures_in


def architectures(name: str) -> list[str]:
    """Return what the wheel has code for: `sm_90`, `compute_90` (PTX); nothing in a CPU build."""
    if name == "tensorflow":
        return list(_build_info().get("cuda_compute_capabilities", ()))
    if name == "jax":
        plugin = jax_plugin()
        library = plugin and Path(plugin.__path__[0], "_linalg.so")
        return architectures_in(library.read_bytes()) if library else []
    torch = import_framework(name)
    flags = getattr(torch._C, "_cuda_getArchFlags", None)  # get_arch_list() wants a GPU
    return flags().split() if flags else []


def built_cuda(names: Sequence[str]) -> str | None:
    """Return the CUDA version that the first framework was compiled for; None for a CPU build."""
    versions = (_BUILT[name]() for name in names)
    return next((str(version) for version in versions if version), None)


def jax_plugin() -> ModuleType | None:
    """Import the package of JAX's CUDA plugin, if it is here."""
    for major in (13, 12):
        with suppress(ModuleNotFoundError):
            return importlib.import_module(f"jax_cuda{major}_plugin")
    return None


def built_cudnn(name: str) -> tuple[int, ...] | None:
    """Return the cuDNN that the framework was compiled for, as far as it says; None: CPU build."""
    if name == "tensorflow":
        said = str(_build_info().get("cudnn_version") or "")
        return tuple(int(part) for part in said.split(".") if part.isdigit()) or None
    if name == "jax":
        number = _jax_version("cudnn_build_version")
        return number and (number // 10000, number % 10000 // 100, number % 100)
    binding = getattr(import_framework(name)._C, "_cudnn", None)
    return None if binding is None else tuple(binding.getCompileVersion())


def _jax_cuda() -> str | None:
    number = _jax_version("cuda_runtime_build_version")
    return number and f"{number // 1000}.{number % 1000 // 10}"


def _jax_version(function: str) -> Any:
    plugin = jax_plugin()
    if plugin is None:
        return None
    return getattr(importlib.import_module(f"{plugin.__name__}._versions"), function)()


def _build_info() -> dict[str, Any]:
    return dict(import_framework("tensorflow").sysconfig.get_build_info())


_BUILT: dict[str, Callable[[], Any]] = {
    "pytorch": lambda: import_framework("pytorch").version.cuda,
    "tensorflow": lambda: _build_info().get("cuda_version"),
    "jax": _jax_cuda,
}
